"""Perplexity sets as they are found: read once, digested and counted, without being held."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.config.perplexity import PerplexityConfig, PerplexitySet
from olmo_core.errors import InputError
from olmo_core.evals.perplexity.documents import Document, Reader, read_texts, read_token_files
from olmo_core.evals.perplexity.paloma import text_units
from olmo_core.evals.perplexity.sets import find_sources, tokenizer_path
from olmo_core.run.job import Job

FACTS = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        *((unit, pa.int64()) for unit in ("word", "char", "byte")),
    ]
)
FACTS_ROWS = 8192  # in memory at once


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of a set: how to read its documents again, and what they are."""

    name: str
    read: Reader
    facts: Path  # Parquet file of `FACTS`, one row per document
    documents: int
    empty_documents: int
    bytes: int
    domains: int
    sha256: str  # of ids, domains, texts and token ids

    def read_facts(self) -> Iterator[pa.RecordBatch]:
        """Yield the facts of the documents in their order, some thousand at a time."""
        with pq.ParquetFile(self.facts) as file:
            yield from file.iter_batches(FACTS_ROWS)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A set of texts: its sources by name, and one digest of all."""

    config: PerplexitySet
    limit: int | None  # bytes that are read of each source
    sources: tuple[Source, ...]
    sha256: str

    def row(self) -> dict[str, Any]:
        """Return what a report shows of it."""
        return {
            "set": self.config.name,
            "kind": self.config.kind,
            "sources": len(self.sources),
            "domains": sum(source.domains for source in self.sources),
            "documents": sum(source.documents for source in self.sources),
            "empty_documents": sum(source.empty_documents for source in self.sources),
            "bytes": sum(source.bytes for source in self.sources),
            "data_sha256": self.sha256[:12],
        }


def survey_sets(
    config: PerplexityConfig, held_out: Path | None, job: Job, *, eos_token_id: Callable[[], int]
) -> list[Survey]:
    """Read all sets once; what is kept of the documents lies in the job's scratch.

    Args:
        config: The section `perplexity`.
        held_out: Run folder with `paloma/<source>/val/*.jsonl.gz`, if the recipe has one.
        job: The running job.
        eos_token_id: Returns the id that ends a document in token files without a header.

    Raises:
        ConfigError: a set's files are not there.
        InputError: a file is damaged, a row malformed, or a set without any text.
    """
    found = [(each, find_sources(each, held_out)) for each in config.sets]
    total = sum(len(sources) for _, sources in found)
    done = 0
    surveys: list[Survey] = []
    for each, files in found:
        sources: list[Source] = []
        for name, paths in files.items():
            facts = job.scratch / "facts" / each.name / f"{name}.parquet"
            message = f"reading {each.name}/{name}"
            report = partial(job.progress, done, total, unit="sources", message=message)
            read = _reader(each, name, paths, eos_token_id)
            sources.append(_survey(name, partial(limited, read, config.limit(each)), facts, report))
            done += 1
        if not any(source.bytes for source in sources):
            documents = sum(source.documents for source in sources)
            raise InputError(
                f"perplexity: sets: {each.name}: no text in its {documents} documents; expected "
                "some"
            )
        digests = json.dumps([[source.name, source.sha256] for source in sources])
        surveys.append(
            Survey(
                config=each,
                limit=config.limit(each),
                sources=tuple(sources),
                sha256=hashlib.sha256(digests.encode()).hexdigest(),
            )
        )
    return surveys


def _reader(
    each: PerplexitySet, source: str, files: Sequence[Path], eos_token_id: Callable[[], int]
) -> Reader:
    if each.kind != "tokens":
        return partial(read_texts, files, source=source)
    return partial(
        read_token_files,
        files,
        source=source,
        tokenizer=tokenizer_path(each),
        dtype=each.dtype,
        eos_token_id=eos_token_id,
    )


def limited(read: Reader, most_bytes: int | None) -> Iterator[Document]:
    """Yield documents until their texts have so many UTF-8 bytes, the last one whole."""
    taken = 0
    for document in read():
        if most_bytes is not None and taken >= most_bytes:
            return
        yield document
        taken += len(document.text.encode())


def _survey(name: str, read: Reader, facts: Path, report: Callable[[], None]) -> Source:
    """Read the documents of a source, and write a row of facts per document.

    `report` is called again and again, so that a stop is heeded within a large source.
    """
    report()
    hashed = hashlib.sha256()
    documents = empty = size = 0
    domains: set[str] = set()
    rows: list[dict[str, Any]] = []
    facts.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(facts, FACTS) as writer:
        for document in read():
            hashed.update(json.dumps([document.id, document.domain, document.text]).encode())
            if document.tokens is not None:
                hashed.update(document.tokens.tobytes())
            units = text_units(document.text)
            rows.append({"id": document.id, "domain": document.domain, **units})
            documents += 1
            empty += not document.text
            size += units["byte"]
            domains.add(document.domain)
            if len(rows) == FACTS_ROWS:
                writer.write_table(pa.Table.from_pylist(rows, FACTS))
                rows.clear()
                report()
        writer.write_table(pa.Table.from_pylist(rows, FACTS))
    return Source(
        name=name,
        read=read,
        facts=facts,
        documents=documents,
        empty_documents=empty,
        bytes=size,
        domains=len(domains),
        sha256=hashed.hexdigest(),
    )
