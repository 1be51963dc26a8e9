"""Asset `raw`: the text of every source as Dolma documents, one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold real text found in this environment or in
a user's folders, the same for the same packages, Python and files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import clip, write_rows, write_shards
from olmo_core.corpus.reading import Reading, read_source
from olmo_core.corpus.sources import SourceConfig, source_identity
from olmo_core.errors import ConfigError
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


if __name__ == "__main__":
    run_job(RawConfig, make)
