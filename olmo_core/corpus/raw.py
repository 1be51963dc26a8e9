"""Asset `raw`: the text of every source as Dolma documents, one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold real text found in this environment or in
a user's folders, the same for the same packages, Python and files.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import Document, clip, write_shards
from olmo_core.corpus.readers import READERS, Passage, Unreadable
from olmo_core.corpus.rows import write_rows
from olmo_core.corpus.sources import SourceConfig, Unit, package_version, source_identity
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks


@dataclass(frozen=True, kw_only=True)
class RawConfig:
    """Section `raw` of corpus.yaml.

    Raises:
        ConfigError: no source, or two of one name.
    """

    sources: tuple[SourceConfig, ...]
    shard_bytes: int = 1_000_000  # of text in one file; later steps work on files in parallel

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"raw: sources {names}: expected at least one, each name once")
        if self.shard_bytes <= 0:
            raise ConfigError(f"raw: shard_bytes {self.shard_bytes}: expected above 0")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The documents of one source, in the order of their ids, and what was left out."""

    documents: list[Document]
    units: int  # files read
    left_out: Mapping[str, int]  # reason -> number of files or texts
    quarantined: list[dict[str, Any]]


def raw_identity(config: RawConfig) -> dict[str, Any]:
    """What decides the text besides the configuration, without reading it; part of the fingerprint.

    Returns:
        `packages` (name -> version of those read), `python` (where its files or its parser count),
        `files` (source -> path, bytes and sha256 of each of a user's files).

    Raises:
        ConfigError: a package or folder that is not there.
    """
    return source_identity(config.sources)


def make(config: RawConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Read every source and write its documents; sources are read side by side."""
    identity = raw_identity(config)
    tasks = [
        Task(
            name=f"read {source.name}",
            reads=json.dumps(identity),
            output=job.folder / "documents" / source.name,
            call=partial(write_source, source, config.shard_bytes),
        )
        for source in config.sources
    ]

    def on_done(count: int, latest: Mapping[str, Any]) -> None:
        job.progress(count, len(tasks), unit="sources", message=latest["row"]["source"])

    with job.timed("read sources"):
        written = map_tasks(tasks, job, on_done=on_done)
    for each in written:
        if each["quarantined"]:
            name = f"{each['row']['source']}.jsonl.gz"
            write_rows(job.folder / "log" / "quarantine" / name, each["quarantined"])
    table = sorted((each["row"] for each in written), key=lambda row: row["source"])
    return Report(
        numbers={
            "sources": len(table),
            "documents": sum(row["documents"] for row in table),
            "text_bytes": sum(row["text_bytes"] for row in table),
            "quarantined": sum(row["quarantined"] for row in table),
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
    middle = reading.documents[len(reading.documents) // 2]
    return {
        "row": _row(source, reading, files),
        "sample": f"{middle.id}\n{clip(middle.text)}",
        "quarantined": reading.quarantined,
    }


def _row(source: SourceConfig, reading: Reading, files: int) -> dict[str, Any]:
    sizes = [document.text_bytes for document in reading.documents]
    return {
        "source": source.name,
        "reader": source.reader,
        "documents": len(sizes),
        "text_bytes": sum(sizes),
        "mean_bytes": round(sum(sizes) / len(sizes)),
        "files_read": reading.units,
        "files_written": files,
        "quarantined": len(reading.quarantined),
        "left_out": "; ".join(f"{n} {reason}" for reason, n in sorted(reading.left_out.items())),
    }


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


if __name__ == "__main__":
    run_job(RawConfig, make)
