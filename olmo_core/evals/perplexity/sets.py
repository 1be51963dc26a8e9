"""The sets of texts that perplexity is measured on: where their files lie, and what they are."""

import functools
import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.config.paths import expanded
from olmo_core.config.perplexity import PerplexitySet
from olmo_core.errors import ConfigError
from olmo_core.files import sha256_file

PALOMA = "${OLMO_PALOMA}"  # where Paloma lies, unless a set says otherwise
# Sources and domains of Paloma: as it is published now, and in its first version.
PALOMA_SIZES = ((16, 546), (18, 585))


def find_sources(each: PerplexitySet, held_out: Path | None) -> dict[str, list[Path]]:
    """Return the files of each source of a set, sources by name, files in their order.

    Args:
        each: The set.
        held_out: Run folder of the recipe's held-out documents; None where there is none.

    Raises:
        ConfigError: a folder, a file or a variable is not there; says which.
    """
    if each.kind == "held_out":
        if held_out is None:
            raise ConfigError(f"perplexity: sets: {each.name}: the recipe holds nothing out")
        return _in_palomas_layout(each, held_out / "paloma", f"{held_out}/paloma")
    if each.kind == "paloma":
        folder, now = expanded(each.folder or PALOMA)
        return _in_palomas_layout(each, folder, f"{each.folder or PALOMA!r} ({now})")
    return {source: _files(each, source) for source in sorted(each.sources)}


def tokenizer_path(each: PerplexitySet) -> Path:
    """Return the tokenizer.json of a set of token files.

    Raises:
        ConfigError: it is not there, or named by a relative path.
    """
    path, now = expanded(each.tokenizer)
    if not path.is_file() or not path.is_absolute():
        raise ConfigError(
            f"perplexity: sets: {each.name}: tokenizer {each.tokenizer!r} ({now}): expected the "
            "tokenizer.json that made the token files, by an absolute path"
        )
    return path


def lacking(sets: Sequence[PerplexitySet]) -> list[str]:
    """Return what this machine lacks of the sets, the recipe's own aside: one line per set."""
    found = [_identity(each) for each in sets if each.kind != "held_out"]
    return [each for each in found if isinstance(each, str)]


def sets_identity(sets: Sequence[PerplexitySet]) -> dict[str, Any]:
    """Return what the figures depend on, in place of the configuration's `sets`.

    That is each file's content, in the order of the files, and not where it lies. A set that is not
    on this machine is known by what it lacks, so that the rest of a recipe can be made.
    """
    places = {"folder", "sources", "tokenizer"}
    return {
        "sets": [
            {
                **{name: value for name, value in vars(each).items() if name not in places},
                **({} if each.kind == "held_out" else {"content": _identity(each)}),
            }
            for each in sets
        ]
    }


def _identity(each: PerplexitySet) -> dict[str, Any] | str:
    """Return the digests of a set's files, or what is not there."""
    try:
        found: Mapping[str, Sequence[Path]] = find_sources(each, None)
        made_by = {"tokenizer": tokenizer_path(each)} if each.kind == "tokens" else {}
    except ConfigError as error:
        return str(error)
    return {
        "sources": {source: [_digest(path) for path in files] for source, files in found.items()},
        **{key: _digest(path) for key, path in made_by.items()},
    }


def _digest(path: Path) -> str:
    found = path.stat()
    return _digest_of(path, found.st_size, found.st_mtime_ns)


@functools.cache  # a graph asks for fingerprints again and again
def _digest_of(path: Path, size: int, modified_ns: int) -> str:
    return sha256_file(path)


def _in_palomas_layout(each: PerplexitySet, folder: Path, said: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*/{each.split}/*.jsonl.gz")):
        found.setdefault(path.parts[-3], []).append(path)
    if not found or not folder.is_absolute():
        raise ConfigError(
            f"perplexity: sets: {each.name}: folder {said}: expected <source>/{each.split}/"
            "*.jsonl.gz below an absolute path"
        )
    return found


def _files(each: PerplexitySet, source: str) -> list[Path]:
    """Return the files of a source, each once.

    Raises:
        ConfigError: a path or pattern names none.
    """
    files: dict[Path, None] = {}
    for entry in each.sources[source]:
        path, now = expanded(entry)
        names = glob.glob(str(path), recursive=True) if glob.has_magic(str(path)) else [str(path)]
        found = [Path(name) for name in sorted(names) if os.path.isfile(name)]
        if not found or not path.is_absolute():
            raise ConfigError(
                f"perplexity: sets: {each.name}: {source}: {entry!r} ({now}): expected a file, or "
                "a pattern of files, by an absolute path"
            )
        files.update(dict.fromkeys(found))
    return [*files]
