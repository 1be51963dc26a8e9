"""Read one source whole: choose its files within the bound, split, number and check its documents.

Every choice is deterministic: the same files give the same documents with the same ids.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.corpus.document import Document
from olmo_core.corpus.readers import READERS, Passage, Unreadable
from olmo_core.corpus.sources import SourceConfig, Unit, package_version
from olmo_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The documents of one source, in the order of their ids, and what was left out."""

    documents: list[Document]
    units: int  # files read
    left_out: Mapping[str, int]  # reason -> number of files or texts
    quarantined: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def read_source(source: SourceConfig) -> Reading:
    """Read one source within its bound, choosing whole units in the order of a hash of their names.

    Raises:
        ConfigError: a package or folder that is not there.
        InputError: a bad document in a user's files (`bad_documents: fail`), an id given twice
            (it names both places), or no document at all.
    """
    units, read = READERS[source.reader](source)
    versions = {name: package_version(name, source.name) for name in source.packages}
    documents: list[Document] = []
    left_out: Counter[str] = Counter()
    quarantined: list[dict[str, Any]] = []
    places: dict[str, str] = {}  # id -> the file, and the line where a document is a line
    room = source.max_bytes
    taken = 0
    for unit in sorted(units, key=_choice):
        if room is not None and room <= 0:
            left_out["beyond max_bytes (files)"] += 1
            continue
        taken += 1
        bad = quarantined if source.bad_documents == "quarantine" else None
        try:
            passages = list(read(unit, bad))
        except Unreadable as reason:
            left_out[f"{reason} (files)"] += 1
            continue
        for place, document in _documents(source, unit, passages, versions, left_out):
            if room is not None:
                room -= document.text_bytes
                if room < 0:
                    left_out["beyond max_bytes (texts)"] += 1
                    continue
            if document.id in places:
                raise InputError(
                    f"{place}: id {document.id!r} (source {source.name}) is given twice, first at "
                    f"{places[document.id]}; ids are unique in a corpus"
                )
            places[document.id] = place
            documents.append(document)
    if not documents:
        raise InputError(f"source {source.name}: no document was found; widen what it reads")
    documents.sort(key=lambda document: document.id)
    return Reading(
        documents=documents, units=taken, left_out=dict(left_out), quarantined=quarantined
    )


def _choice(unit: Unit) -> bytes:
    return hashlib.sha256(unit.name.encode()).digest()


def _documents(
    source: SourceConfig,
    unit: Unit,
    passages: Iterable[Passage],
    versions: Mapping[str, str],
    left_out: Counter[str],
) -> Iterator[tuple[str, Document]]:
    """Split, number and bound the texts of one unit; each with the place it was found at."""
    origin: dict[str, Any] = {}
    if unit.package:
        origin["package"] = unit.package
        if unit.package in versions:
            origin["version"] = versions[unit.package]
    for passage in passages:
        place = str(unit.path) if passage.line is None else f"{unit.path}:{passage.line}"
        pieces = split_text(passage.text, source.max_document_bytes)
        for number, piece in enumerate(pieces):
            if len(piece.encode()) < source.min_document_bytes or not piece.strip():
                left_out["shorter than min_document_bytes (texts)"] += 1
                continue
            identity = passage.name or unit.name
            if not identity.startswith(f"{source.name}/"):
                identity = f"{source.name}/{identity}"
            document = Document(
                id=identity if len(pieces) == 1 else f"{identity}#{number:03d}",
                text=piece,
                source=source.name,
                added=passage.added,
                created=passage.created,
                metadata={**passage.metadata, **origin, "file": unit.name},
            )
            yield place, document


def split_text(text: str, max_bytes: int) -> list[str]:
    """Cut a text into pieces of at most `max_bytes` UTF-8 bytes, at blank lines where possible.

    A paragraph that is too long is cut at its lines; a line that is too long, within.
    """
    if len(text.encode()) <= max_bytes:
        return [text]
    for separator in ("\n\n", "\n"):
        parts = text.split(separator)
        if len(parts) > 1:
            return _pack(parts, separator, max_bytes)
    halfway = len(text) // 2
    return split_text(text[:halfway], max_bytes) + split_text(text[halfway:], max_bytes)


def _pack(parts: list[str], separator: str, max_bytes: int) -> list[str]:
    pieces: list[str] = []
    current = ""
    for part in parts:
        joined = f"{current}{separator}{part}" if current else part
        if len(joined.encode()) <= max_bytes:
            current = joined
            continue
        if current:
            pieces.append(current)
        *whole, current = split_text(part, max_bytes)
        pieces += whole
    return [*pieces, current] if current else pieces
