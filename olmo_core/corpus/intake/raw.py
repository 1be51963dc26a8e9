"""Asset `raw`: the text of every source as Dolma documents, one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold real text found in this environment or in
a user's folders, the same for the same packages, Python and files.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import Document, totals, write_shards
from olmo_core.corpus.intake.readers import READERS, Passage, UnitReader, Unreadable
from olmo_core.corpus.intake.sources import SourceConfig, Unit, source_identity
from olmo_core.corpus.rows import write_rows
from olmo_core.errors import InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks


@dataclass(frozen=True, kw_only=True)
class RawConfig(Bounded):
    """Section `raw` of corpus.yaml.

    Raises:
        ValueError: no source, two of one name, or no room in a file.
    """

    sources: tuple[SourceConfig, ...]
    # of text in one file; later steps work on files in parallel
    shard_bytes: int = at_least(1, default=1_000_000)

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"sources: {names}: expected at least one, each name once")
        super().__post_init__()


@dataclass(kw_only=True)
class Reading:
    """The documents of one source, in the order of their ids, and what was left out."""

    documents: list[Document] = field(default_factory=list[Document])
    units: int = 0  # files read
    left_out: Counter[str] = field(default_factory=Counter[str])  # files or texts by reason
    quarantined: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def make(config: RawConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Read every source and write its documents; sources are read side by side."""
    identity = source_identity(config.sources)
    tasks = [
        Task(
            name=f"read {source.name}",
            reads=json.dumps(identity),
            output=job.folder / "documents" / source.name,
            call=partial(write_source, source, config.shard_bytes),
        )
        for source in config.sources
    ]
    with job.timed("read sources"):
        written = map_tasks(tasks, job, unit="sources")
    for each in written:
        if each["quarantined"]:
            name = f"{each['row']['source']}.jsonl.gz"
            write_rows(job.folder / "log" / "quarantine" / name, each["quarantined"])
    table = sorted((each["row"] for each in written), key=lambda row: row["source"])
    return Report(
        numbers={
            "sources": len(table),
            **totals(table, "documents", "text_bytes", "quarantined"),
        },
        tables={"sources": table},
        samples={"documents": sorted(each["sample"] for each in written)},
        data=identity,
    )


def write_source(source: SourceConfig, shard_bytes: int, out: Path) -> dict[str, Any]:
    """Read one source and write its shards into `out`; runs in a process of its own.

    Returns:
        `row`, the source's figures; `sample`, the beginning of one document; `quarantined`, rows.
    """
    reading = read_source(source)
    files = write_shards(out, reading.documents, shard_bytes=shard_bytes)
    sizes = [document.text_bytes for document in reading.documents]
    middle = reading.documents[len(sizes) // 2]
    left_out = sorted(reading.left_out.items())
    row = {
        "source": source.name,
        "reader": source.reader,
        "documents": len(sizes),
        "text_bytes": sum(sizes),
        "mean_bytes": round(sum(sizes) / len(sizes)),
        "files_read": reading.units,
        "files_written": files,
        "quarantined": len(reading.quarantined),
        "left_out": "; ".join(f"{number} {reason}" for reason, number in left_out),
    }
    return {"row": row, "sample": middle.sample(), "quarantined": reading.quarantined}


def read_source(source: SourceConfig) -> Reading:
    """Read one source within its bound, choosing whole units in the order of a hash of their names.

    Raises:
        ConfigError: a package or folder that is not there.
        InputError: a bad document in a user's files (`bad_documents: fail`), an id given twice
            (it names both places), or no document at all.
    """
    units, read = READERS[source.reader](source)
    reading = Reading()
    places: dict[str, str] = {}  # id -> the file, and the line where a document is a line
    room = math.inf if source.max_bytes is None else source.max_bytes
    for unit in sorted(units, key=lambda unit: hashlib.sha256(unit.name.encode()).digest()):
        if room <= 0:
            reading.left_out["beyond max_bytes (files)"] += 1
            continue
        reading.units += 1
        for passage in _passages(source, unit, read, reading):
            place = str(unit.path) if passage.line is None else f"{unit.path}:{passage.line}"
            for document in _documents(source, unit, passage, reading):
                room -= document.text_bytes
                if room < 0:
                    reading.left_out["beyond max_bytes (texts)"] += 1
                    continue
                if document.id in places:
                    raise InputError(
                        f"{place}: id {document.id!r} (source {source.name}) is given twice, first "
                        f"at {places[document.id]}; ids are unique in a corpus"
                    )
                places[document.id] = place
                reading.documents.append(document)
    if not reading.documents:
        raise InputError(f"source {source.name}: no document was found; widen what it reads")
    reading.documents.sort(key=lambda document: document.id)
    return reading


def _passages(
    source: SourceConfig, unit: Unit, read: UnitReader, reading: Reading
) -> Iterator[Passage]:
    """Yield what can be read of a unit; quarantine or count the rest."""
    try:
        for found in read(unit):
            if isinstance(found, Passage):
                yield found
            elif source.bad_documents == "fail":
                raise found.error
            else:
                message = str(found.error).replace(str(unit.path), unit.name)
                row = {"file": unit.name, "error": message, **found.place}
                reading.quarantined.append(row)
    except Unreadable as reason:
        reading.left_out[f"{reason} (files)"] += 1


def _documents(
    source: SourceConfig, unit: Unit, passage: Passage, reading: Reading
) -> Iterator[Document]:
    """Split, number and bound a text."""
    name = passage.name or unit.name
    if not name.startswith(f"{source.name}/"):
        name = f"{source.name}/{name}"
    pieces = split_text(passage.text, source.max_document_bytes)
    for number, piece in enumerate(pieces):
        if len(piece.encode()) < source.min_document_bytes or not piece.strip():
            reading.left_out["shorter than min_document_bytes (texts)"] += 1
            continue
        yield Document(
            id=name if len(pieces) == 1 else f"{name}#{number:03d}",
            text=piece,
            source=source.name,
            added=passage.added,
            created=passage.created,
            metadata={**passage.metadata, **unit.origin, "file": unit.name},
        )


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


if __name__ == "__main__":
    run_job(RawConfig, make)
