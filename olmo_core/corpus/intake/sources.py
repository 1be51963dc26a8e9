"""What a source of raw text is: its configuration, the files it reads, and their identity.

Nothing here imports a package whose text is read: the files named in its RECORD are listed.
"""

import fnmatch
import functools
import importlib.metadata
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file

ReaderName = Literal[
    "python_code", "docstrings", "pydoc_topics", "package_text", "licences", "files"
]

# Written at build time, on another machine: paths, compilers, hosts.
MACHINE_FILES = ("_sysconfigdata*", "config-*", "site-packages/*", "dist-packages/*", "*/_vendor/*")
DEFAULT_INCLUDE = ("**/*.txt", "**/*.md", "**/*.jsonl", "**/*.jsonl.gz", "**/*.json.gz")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source: where its text comes from and how much of it.

    Raises:
        ConfigError: a key that the reader does not use, or lacks.
    """

    name: str  # also the folder's name, the prefix of ids, the domain of evaluation
    reader: ReaderName
    standard_library: bool = False  # python_code, docstrings: read the standard library
    packages: tuple[str, ...] = ()  # distributions of this environment, by their names
    exclude: tuple[str, ...] = ()  # patterns of relative paths that are not read
    root: str = ""  # files: folder, absolute; ~ and ${VARIABLES} are expanded when it is read
    include: tuple[str, ...] = ()  # files: glob patterns below root
    max_bytes: int | None = None  # of text; units are taken in the order of a hash of their names
    max_document_bytes: int = 16_000  # longer texts are split at blank lines
    min_document_bytes: int = 200  # shorter texts are left out
    bad_documents: Literal["fail", "quarantine"] = "fail"  # files: what a bad line or file does

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.name):
            raise ConfigError(
                f"sources: name {self.name[:120]!r}: expected letters, digits, . _ - (at most 100)"
            )
        if (self.reader == "files") != bool(self.root):
            raise ConfigError(f"sources: {self.name}: `root` belongs to, and only to, reader files")
        if self.reader != "files" and (self.include or self.bad_documents != "fail"):
            raise ConfigError(
                f"sources: {self.name}: `include` and `bad_documents` belong to reader files"
            )
        for pattern in self.include:
            parts = PurePosixPath(pattern).parts
            glued = any("**" in part and part != "**" for part in parts)
            if not parts or parts[0] == "/" or ".." in parts or glued:
                raise ConfigError(
                    f"sources: {self.name}: include: pattern {pattern!r}; expected one relative to "
                    "`root` and below it, such as '**/*.txt' (`**` is a part of its own)"
                )
        if self.reader in ("package_text", "licences") and not self.packages:
            raise ConfigError(f"sources: {self.name}: `packages` is empty; name what is read")
        if self.reader in ("python_code", "docstrings") and not (
            self.packages or self.standard_library
        ):
            raise ConfigError(
                f"sources: {self.name}: nothing to read; set `standard_library: true` or `packages`"
            )
        if not 0 < self.min_document_bytes <= self.max_document_bytes:
            raise ConfigError(
                f"sources: {self.name}: min_document_bytes {self.min_document_bytes} must be "
                f"above 0 and at most max_document_bytes {self.max_document_bytes}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One file that a reader reads."""

    name: str  # relative path, the same on every machine
    path: Path
    origin: Mapping[str, str]  # package and its version; "python" for the standard library


def _package_version(name: str, source: SourceConfig) -> str:
    try:
        return _versions().get(_normalised(name)) or importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"sources: {source.name}: package {name!r} is not installed in this environment; "
            "install the locked requirements, or take it off the list"
        ) from None


@functools.cache
def _versions() -> dict[str, str]:
    """Return the versions of installed packages, by normalised name.

    They are read from the names of the packages' folders (PEP 427): `importlib.metadata` parses a
    long file per package (0.37 s for the demo's 157).
    """
    found = [path.stem for entry in reversed(sys.path) for path in Path(entry).glob("*.dist-info")]
    return {_normalised(name): version for name, _, version in (s.partition("-") for s in found)}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def package_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield the files of the source's packages as their RECORDs list them, in a fixed order.

    Raises:
        ConfigError: a package is not installed in the environment that runs this.
    """
    for name in source.packages:
        origin = {"package": name, "version": _package_version(name, source)}
        for file in sorted(importlib.metadata.files(name) or (), key=str):
            relative = file.as_posix()
            # Scripts and data outside site-packages (`../../bin/x`) are not the package's text.
            if not relative.startswith("..") and not matches(
                relative, (*MACHINE_FILES, *source.exclude)
            ):
                yield Unit(name=relative, path=Path(str(file.locate())), origin=origin)


def standard_library_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield the standard library's own `.py` files, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        for file in sorted(files):
            path = Path(folder, file)
            relative = path.relative_to(root).as_posix()
            if file.endswith(".py") and not matches(relative, (*MACHINE_FILES, *source.exclude)):
                yield Unit(name=relative, path=path, origin={"package": "python"})


def user_files(source: SourceConfig) -> list[Unit]:
    """Return a user's files below `root` by glob, sorted by relative path.

    Raises:
        ConfigError: the folder is missing, relative, or holds no such file.
        InputError: a file's name is not UTF-8.
    """
    root, found = expanded(source.root)
    if not root.is_absolute() or not root.is_dir():
        raise ConfigError(
            f"sources: {source.name}: root {source.root!r} ({found}): expected an existing folder "
            "as an absolute path; ~ and ${VARIABLES} are expanded"
        )
    patterns = source.include or DEFAULT_INCLUDE
    files = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(root).as_posix() for path in files)
    names = [name for name in names if not matches(name, source.exclude)]
    if not names:
        raise ConfigError(f"sources: {source.name}: no file in {root} matches {list(patterns)}")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{root}: file {os.fsencode(name)!r} (source {source.name}): its name is not "
                "UTF-8; rename it, or leave it out with `exclude`"
            ) from None
    return [Unit(name=name, path=root / name, origin={}) for name in names]


def expanded(text: str) -> tuple[Path, str]:
    """Return a path with ~ and variables replaced, and for errors what is unset, or that path."""
    path = Path(os.path.expandvars(text)).expanduser()
    unset = re.findall(r"\$\{?(\w+)", str(path))
    return path, f"not set: {', '.join(unset)}" if unset else f"now {path}"


def matches(relative: str, patterns: Sequence[str]) -> bool:
    """Return whether a relative path matches one of the patterns; `*` matches `/` too."""
    return any(fnmatch.fnmatchcase(relative, pattern) for pattern in patterns)


def source_identity(sources: Sequence[SourceConfig]) -> dict[str, Any]:
    """Return what decides the text besides the configuration; part of the fingerprint.

    Returns:
        `packages` (name -> version of those read), `python` (where its files or its parser count),
        `files` (source -> path, bytes and sha256 of each of a user's files).

    Raises:
        ConfigError: a package or folder that is not there.
    """
    identity: dict[str, Any] = {
        "packages": {
            name: _package_version(name, source)
            for source in sources
            for name in sorted(source.packages)
        }
    }
    if any(source.reader in ("python_code", "docstrings", "pydoc_topics") for source in sources):
        identity["python"] = platform.python_version()
    files = {
        source.name: [
            {
                "path": unit.name,
                "bytes": unit.path.stat().st_size,
                "sha256": sha256_file(unit.path),
            }
            for unit in user_files(source)
        ]
        for source in sources
        if source.reader == "files"
    }
    if files:
        identity["files"] = files
    return identity
