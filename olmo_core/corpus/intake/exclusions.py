"""The documents that a source leaves out by a list: each named by its id, its URL or its SHA-1."""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from olmo_core.corpus.intake.lists import read_list
from olmo_core.corpus.intake.sources import SourceConfig, named_place
from olmo_core.corpus.intake.unique_ids import mark
from olmo_core.errors import InputError

KINDS = ("id", "url", "sha1")  # where several match a document, it counts under the first

Entries = Mapping[str, Mapping[str, int]]  # kind -> value -> number of its line


def read_entries(source: SourceConfig) -> Entries:
    """Return the entries of a source's list, each once; none where it has no list.

    Raises:
        ConfigError: the file is not there.
        InputError: a line that is no entry.
    """
    if not source.exclude_documents:
        return {kind: {} for kind in KINDS}
    path = named_place(source, "exclude_documents")
    status = path.stat()
    return _parsed(path, source.name, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)  # a process reads many groups of files of one source
def _parsed(path: Path, source: str, *_written: int) -> Entries:
    entries: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for number, text in read_list(path):
        kind, _, value = (part.strip() for part in text.partition(":"))
        if kind == "sha1":
            value = value.lower()
        if kind not in KINDS or not value or (kind == "sha1" and not _is_sha1(value)):
            raise InputError(
                f"{path}:{number}: found {text[:120]!r}; expected 'id: ', 'url: ' or 'sha1: ' "
                "and what it names (sha1: 40 hexadecimal digits, of the text in UTF-8)"
            )
        if kind == "id" and not value.startswith(f"{source}/"):
            value = f"{source}/{value}"
        entries[kind].setdefault(value, number)
    return entries


def _is_sha1(value: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", value) is not None


class Exclusions:
    """A source's list, and which of its entries have matched so far."""

    def __init__(self, entries: Entries) -> None:
        self._ids, self._urls, self._digests = (entries[kind] for kind in KINDS)
        self.matched: set[int] = set()  # lines

    def of_text(self, name: str, text: str, metadata: Mapping[str, Any]) -> str:
        """Return the kind of entry that names a whole text, or ""."""
        url = metadata.get("url")
        return self._first(
            self._ids.get(name),
            self._urls.get(url) if isinstance(url, str) else None,
            self._digest(text),
        )

    def of_piece(self, name: str, text: str, file: str, line: int) -> str:
        """Return the kind of entry that names a document as it will be written, or ""."""
        marked = f"{name}~{mark(file, line, name):016x}" if self._ids else ""
        return self._first(self._ids.get(name) or self._ids.get(marked), None, self._digest(text))

    def _digest(self, text: str) -> int | None:
        if not self._digests:
            return None
        return self._digests.get(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def _first(self, *lines: int | None) -> str:
        found = [(kind, line) for kind, line in zip(KINDS, lines, strict=True) if line]
        self.matched.update(line for _, line in found)
        return found[0][0] if found else ""
