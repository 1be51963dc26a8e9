"""Find models that others released: in a folder, or in the hub's cache, never on a network.

A model is known by the content of its files, wherever they lie.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from olmo_core.config.paths import expanded
from olmo_core.config.released import ReleasedModel
from olmo_core.errors import InputError, listed
from olmo_core.files import read_json, sha256_file
from olmo_core.run.result import digest

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
# As `olmo_core.checkpoint.weight_files` has them, which a plan, without torch, cannot read.
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What else transformers reads, where it is there.
FURTHER = (
    *(TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"),
    "generation_config.json",
)
PERPLEXITY_TYPES = ("olmo", "olmo2")  # that our own model computes
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files of a model that is on this machine."""

    files: Mapping[str, Path]  # by their names in the folder
    weights: tuple[str, ...]  # which of them hold the weights, an index among them
    model_type: str
    commit: str | None  # of the hub's repository

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file; the hub's cache names large files by it."""
        return {name: _digest(path) for name, path in sorted(self.files.items())}


def find(name: str, model: ReleasedModel) -> Found:
    """Return the files of a model.

    Raises:
        InputError: it is not here, or cannot be evaluated; says what would be right, and of the hub
            the command that fetches it.
    """
    folder, commit = _hub_folder(name, model) if model.hub else (_folder(name, model), None)
    try:
        return _files(folder, model, commit)
    except _Unfit as error:
        raise InputError(f"{name}: {error}") from None
    except InputError as error:
        fetch = f"; where there is a network: {fetch_command(model)}" if model.hub else ""
        raise InputError(f"{name}: {error}{fetch}") from None


def lacking(models: Mapping[str, ReleasedModel]) -> list[str]:
    """Return what this machine lacks of the models, one line per model."""
    lines: list[str] = []
    for name, model in models.items():
        try:
            find(name, model)
        except InputError as error:
            lines.append(str(error))
    return lines


def models_identity(models: Mapping[str, ReleasedModel]) -> dict[str, Any]:
    """Return what the models are, in place of the section: content, and not where it lies.

    One that is not on this machine is known by what it lacks, so that the rest of a recipe can be
    made. The names of repository and revision stand in rows and count.
    """
    return {
        "models": {
            name: {
                **{key: value for key, value in vars(model).items() if key != "folder"},
                "content": _content(name, model),
            }
            for name, model in models.items()
        }
    }


def label(model: ReleasedModel, found: Found, digests: Mapping[str, str]) -> str:
    """Return what stands as `revision` in rows: no revision of our own models has an @."""
    if model.hub:
        return f"{model.hub}@{found.commit}"
    content = digest({name: {"sha256": value} for name, value in digests.items()})
    return f"folder@{content[:12]}"


def is_released(row: Mapping[str, Any]) -> bool:
    """Return whether a row of an evaluation is of a model that others released."""
    return "@" in (row["revision"] or "")


def fetch_command(model: ReleasedModel) -> str:
    """Return the command that puts a model of the hub into its cache."""
    return f"hf download {model.hub} --revision {model.revision}"


class _Unfit(InputError):
    """A model that is here and cannot be evaluated: fetching it again would not help."""


def _content(name: str, model: ReleasedModel) -> dict[str, str] | str:
    try:
        return find(name, model).digests()
    except InputError as error:
        return str(error)


def _folder(name: str, model: ReleasedModel) -> Path:
    folder, now = expanded(model.folder)
    if not folder.is_absolute() or not folder.is_dir():
        raise InputError(
            f"{name}: folder {model.folder!r} ({now}): expected a folder in Hugging Face layout, "
            "by an absolute path"
        )
    return folder


def _hub_folder(name: str, model: ReleasedModel) -> tuple[Path, str]:
    """Return the snapshot of a revision in the hub's cache, and its commit."""
    from huggingface_hub import constants, try_to_load_from_cache  # a second, and few recipes ask

    found = try_to_load_from_cache(model.hub, CONFIG, revision=model.revision)
    if not isinstance(found, str):
        raise InputError(
            f"{name}: {model.hub} at {model.revision} is not in the hub's cache, "
            f"{constants.HF_HUB_CACHE}; where there is a network: {fetch_command(model)}"
        )
    folder = Path(found).parent
    return folder, folder.name


def _files(folder: Path, model: ReleasedModel, commit: str | None) -> Found:
    weights = _weights(folder)
    further = [name for name in FURTHER if (folder / name).is_file()]
    files = {name: folder / name for name in (CONFIG, TOKENIZER, *weights, *further)}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise InputError(f"{folder}: {', '.join(missing)} missing; expected safetensors and JSON")
    values: Any = read_json(files[CONFIG])
    kind = values.get("model_type") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise _Unfit(f"{files[CONFIG]}: no model_type; expected that of a model of transformers")
    for name in (CONFIG, TOKENIZER_CONFIG):
        if name in files and "auto_map" in read_json(files[name]):
            raise _Unfit(
                f"{files[name]}: auto_map: code of the model's own would have to run, which is "
                "never done here; expected an architecture and a tokenizer of transformers"
            )
    if model.perplexity and kind not in PERPLEXITY_TYPES:
        raise _Unfit(
            f"{files[CONFIG]}: model_type {kind!r}, but perplexity is computed by our own model, "
            f"of {' and '.join(PERPLEXITY_TYPES)}; `perplexity: false` has it scored on tasks alone"
        )
    return Found(files=files, weights=tuple(weights), model_type=kind, commit=commit)


def _weights(folder: Path) -> list[str]:
    """Return the names of the files that hold the weights, the index of shards last."""
    if not (folder / INDEX).is_file():
        return [WEIGHTS]
    if (folder / WEIGHTS).is_file():
        raise _Unfit(f"{folder}: both {WEIGHTS} and {INDEX}; expected one of them")
    index: Any = read_json(folder / INDEX)
    names: Any = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(f"{folder / INDEX}: no weight_map; expected a mapping of names")
    shards = {str(name) for name in cast(dict[str, Any], names).values()}
    if strange := [name for name in shards if "/" in name or not name.endswith(".safetensors")]:
        raise _Unfit(f"{folder / INDEX}: {listed(strange)}: expected .safetensors files beside it")
    return [*sorted(shards), INDEX]


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; of a link to one that is named by it, that name."""
    named = path.resolve().name
    if SHA256.fullmatch(named) and path.is_symlink():
        return named
    found = path.stat()
    return _digest_of(path, found.st_size, found.st_mtime_ns)


@functools.cache  # a graph asks for fingerprints again and again
def _digest_of(path: Path, size: int, modified_ns: int) -> str:
    return sha256_file(path)
