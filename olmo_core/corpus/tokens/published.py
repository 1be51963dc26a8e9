"""Token files that others have made: which there are, as a recipe names them."""

import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from olmo_core.config.load import load
from olmo_core.config.load_tree import Tree
from olmo_core.config.paths import expanded
from olmo_core.data.format import rows_path
from olmo_core.errors import ConfigError
from olmo_core.remote.address import address
from olmo_core.remote.storage import is_remote

_PARTS, _PART_BYTES = 4, 1 << 18  # of a local file: what its identity is taken from


@dataclass(frozen=True, kw_only=True)
class PublishedSource:
    """One source of token files: where they lie, and what is said of them.

    Raises:
        ValueError: no name, or neither or both ways to list the files.
    """

    source: str  # the folder's name, and the name in mixes
    # absolute paths and glob patterns, whose ~ and ${VARIABLES} are expanded when they are read;
    # URLs as they stand
    paths: tuple[str, ...] = ()
    official: str = ""  # a training file of OLMo's, in place of paths: its data.paths
    matching: tuple[str, ...] = ()  # patterns: which of data.paths; all by default
    # default: memmap_dtype of `official`, else what the vocabulary needs
    dtype: Literal["", "uint16", "uint32"] = ""
    licence: str = ""  # for the model card; decides nothing else

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.source):
            raise ValueError(
                f"source {self.source[:120]!r}: expected letters, digits, . _ - (at most 100)"
            )
        if bool(self.paths) == bool(self.official):
            raise ValueError(f"{self.source}: expected one of paths and official")
        if self.matching and not self.official:
            raise ValueError(f"{self.source}: matching chooses of what `official` lists")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The token files of a source, each once.

    Attributes:
        times: How often each is listed, by URL or absolute path, in the order of the list.
        dtype: Of the ids, if something says it; else "".
    """

    times: Mapping[str, int]
    dtype: str


def list_files(source: PublishedSource) -> Listed:
    """Return the token files of a source. Looks at the disk, never at a server.

    Raises:
        ConfigError: no file, a pattern or a path that names none, a file that is no training file.
    """
    where, dtype = f"tokens: published: {source.source}", source.dtype
    entries: Sequence[str] = source.paths
    if source.official:
        entries, said = _official(source, where)
        dtype = dtype or said
    times: dict[str, int] = {}
    for entry in entries:
        for place in _places(entry, where):
            times[place] = times.get(place, 0) + 1
    return Listed(times=times, dtype=dtype)


def published_dtype(sources: Sequence[PublishedSource], default: str) -> str:
    """Return the one dtype of all sources; `default` is that of those that say none.

    Raises:
        ConfigError: as `list_files`, and if they have several.
    """
    found = {source.source: list_files(source).dtype or default for source in sources}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} {dtype}" for name, dtype in found.items())
        raise ConfigError(f"tokens: published: {said}; expected one dtype: a mix has one")
    return found[sources[0].source]


def published_identity(sources: Sequence[PublishedSource]) -> dict[str, Any]:
    """Return what decides the token files besides the configuration; part of the fingerprint.

    Returns:
        For each source the files in their order: a URL, or the name of a local file with its bytes
        and the SHA-256 of some parts, and the same of its rows. The SHA-256 of all bytes stands in
        the result: to take it of a pretraining corpus before each plan would take hours.

    Raises:
        ConfigError: as `list_files`.
    """
    if not sources:
        return {}
    found = {source.source: list_files(source) for source in sources}
    return {
        "published_files": {
            name: {
                "dtype": listed.dtype,
                "files": [
                    {"times": times, **_identity(place)} for place, times in listed.times.items()
                ],
            }
            for name, listed in found.items()
        }
    }


def _official(source: PublishedSource, where: str) -> tuple[list[str], str]:
    """Return the paths of an official training file that match, and its dtype."""
    path, found = expanded(source.official)
    if not path.is_file():
        raise ConfigError(
            f"{where}: official {source.official!r} ({found}): expected a training file of OLMo's; "
            "~ and ${VARIABLES} are expanded"
        )
    data: object = load(path).get("data")
    paths: object = data.get("paths") if isinstance(data, Tree) else None
    if not isinstance(data, Tree) or not isinstance(paths, list) or not paths:
        raise ConfigError(f"{path}: data.paths: expected a list of token files")
    listed = [str(entry) for entry in cast(list[object], paths)]
    chosen = [
        entry
        for entry in listed
        if not source.matching
        or any(fnmatch.fnmatchcase(entry, pattern) for pattern in source.matching)
    ]
    if not chosen:
        raise ConfigError(
            f"{where}: matching {list(source.matching)} is true of none of the {len(listed)} "
            f"data.paths of {path}; the first is {listed[0]}"
        )
    return chosen, str(data.get("memmap_dtype") or "uint16")  # OLMo's default


def _places(entry: str, where: str) -> list[str]:
    """Return the URL, or the absolute paths, that an entry of a list stands for."""
    if is_remote(entry):
        return [entry]
    path, found = expanded(entry)
    if not path.is_absolute():
        raise ConfigError(f"{where}: {entry!r} ({found}): expected an absolute path or a URL")
    names = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(path)) else [path]
    files = [str(name) for name in names if os.path.isfile(name)]
    if not files:
        raise ConfigError(f"{where}: {entry!r} ({found}): no such file")
    return files


def rows_beside(place: str) -> str:
    """Return where the rows of a token file would lie; a URL may end in a query."""
    if not is_remote(place):
        return str(rows_path(place))
    return re.sub(r"(\.[^./?]*)?(\?.*)?$", r".csv.gz\2", place, count=1)


def _identity(place: str) -> dict[str, Any]:
    if is_remote(place):
        return {"url": address(place)}
    rows = rows_beside(place)
    return {
        "name": Path(place).name,
        **_parts(place),
        "rows": _parts(rows) if os.path.isfile(rows) else None,
    }


def _parts(path: str) -> dict[str, Any]:
    """Return a file's size, and a digest of a few parts from its beginning to its end."""
    size = os.stat(path).st_size
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in range(_PARTS):
            file.seek(max(0, size - _PART_BYTES) * part // (_PARTS - 1))
            digest.update(file.read(_PART_BYTES))
    return {"bytes": size, "parts_sha256": digest.hexdigest()}
