"""The readers: which files each lists of a source, how it reads one, and what decides the text."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from olmo_core.corpus.intake import installed, remote, warc
from olmo_core.corpus.intake.elsewhere import named_files
from olmo_core.corpus.intake.passages import LeftOut, Passage, Refused
from olmo_core.corpus.intake.sources import Listing, ReaderName, SourceConfig, Unit, named_place
from olmo_core.corpus.intake.user_files import read_user_file, user_files
from olmo_core.files import sha256_file


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way to get text; the same files give the same passages, in the same order."""

    units: Callable[[SourceConfig], Listing]
    read: Callable[[SourceConfig, Unit], Iterator[Passage | Refused | LeftOut]]


def _of_installed(
    units: Callable[[SourceConfig], Iterator[Unit]], read: Callable[[Unit], Iterator[Passage]]
) -> Reader:
    return Reader(
        units=lambda source: Listing(units=sorted(units(source), key=lambda unit: unit.name)),
        read=lambda source, unit: read(unit),
    )


READERS: Mapping[ReaderName, Reader] = {
    "python_code": _of_installed(installed.code_files, installed.read_code),
    "docstrings": _of_installed(installed.code_files, installed.read_docstrings),
    "pydoc_topics": _of_installed(installed.topic_files, installed.read_topics),
    "package_text": _of_installed(installed.prose_files, installed.read_prose),
    "licences": _of_installed(installed.licence_files, installed.read_prose),
    "files": Reader(units=user_files, read=read_user_file),
}


def source_identity(sources: Sequence[SourceConfig]) -> dict[str, Any]:
    """Return what decides the text besides the configuration; part of the fingerprint.

    Returns:
        `packages` (name -> version of those read, and of those that make text of web archives),
        `python` (where its files or its parser count), `files` (source -> path, bytes and sha256 of
        each of a user's files), `urls` and `exclude_documents` (source -> sha256 of its list).

    Raises:
        ConfigError: a package, folder or list that is not there.
    """
    identity: dict[str, Any] = {
        "packages": {
            name: installed.package_version(name, source)
            for source in sources
            for name in sorted(source.packages)
        }
    }
    if any(source.reader in ("python_code", "docstrings", "pydoc_topics") for source in sources):
        identity["python"] = platform.python_version()
    files = {
        source.name: [
            {"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for unit in user_files(source).units
            for name, path in named_files(source, unit)
        ]
        for source in sources
        if source.root
    }
    if files:
        identity["files"] = files
    names = [str(row["path"]) for rows in files.values() for row in rows]
    names += [name for source in sources for name in remote.names_ahead(source)]
    if any(name.endswith(warc.SUFFIXES) for name in names):
        identity["packages"] |= {name: version(name) for name in warc.PACKAGES}
    for key in ("urls", "exclude_documents"):
        named = [source for source in sources if getattr(source, key)]
        if named:
            identity[key] = {each.name: sha256_file(named_place(each, key)) for each in named}
    return identity
