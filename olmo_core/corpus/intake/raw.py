"""Asset `raw`: the text of every source as Dolma documents, one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold real text found in this environment or in
a user's folders, in the order of files and lines, the same for the same packages, Python and files.
The attributes that a source brings along stand row for row beside, in `attributes/elsewhere/`.
What a source's list excludes stands in `excluded/<source>/` instead, for its near copies' sake.
"""

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import ELSEWHERE, EXCLUDED_FOLDER, numbered, totals
from olmo_core.corpus.intake.exclusions import read_entries
from olmo_core.corpus.intake.groups import (
    EXCLUDED,
    QUARANTINE,
    attributes_path,
    keys_path,
    list_files,
    listed_groups,
    read_bounded,
    read_group,
    shard_path,
)
from olmo_core.corpus.intake.readers import source_identity
from olmo_core.corpus.intake.reading import Group, Reading
from olmo_core.corpus.intake.remote import brought
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.corpus.intake.unique_ids import find_repeated, partitions, rename
from olmo_core.errors import InputError
from olmo_core.files import atomic_path, link_files
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


def make(config: RawConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Read every source in groups of files, make ids unique, and number the shards."""
    identity = source_identity(config.sources)
    reads = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    ordered = sorted(config.sources, key=lambda source: source.name)
    readings = [
        Reading(source=source, reader=source.reader, entries=read_entries(source))
        for source in ordered
    ]
    with job.timed("bring sources"):
        for reading in readings:
            name = reading.source.name
            at = partial(_report_bytes, job, name)
            reading.source = brought(reading.source, job.scratch / "brought" / name, at)
    with job.timed("read sources"):
        _read(readings, config.shard_bytes, job, reads)
    for reading in readings:
        if not reading.documents:
            raise InputError(
                f"source {reading.source.name}: no document was found (left out: "
                f"{reading.left_out or 'nothing'}; excluded: {reading.excluded.total()}); widen "
                "what it reads"
            )
    with job.timed("make ids unique"):
        _name_shards(readings, job, reads)
    # What another attempt has left there, half a file perhaps, is none of this one's.
    shutil.rmtree(job.folder / "log" / "quarantine", ignore_errors=True)
    for reading in readings:
        quarantined = [group for group in reading.groups if group.quarantined]
        if quarantined:
            _join_quarantines(quarantined, job.folder / "log", reading.source.name)
    _link_excluded(readings, job.folder / EXCLUDED_FOLDER)
    excluded = [
        row
        for reading in readings
        if reading.source.exclude_documents
        for row in reading.exclusions(job.folder / "log" / "matched_nothing")
    ]
    table = [reading.row() for reading in readings]
    columns = ("documents", "text_bytes", "missing_ids", "repeated_ids", "quarantined", "excluded")
    return Report(
        numbers={"sources": len(table), **totals(table, *columns)},
        tables={"sources": table, **({"excluded": excluded} if excluded else {})},
        samples={"documents": [reading.sample() for reading in readings]},
        data=identity,
    )


def _report_bytes(job: Job, source: str, done: int, total: int, files: str) -> None:
    job.progress(done, total, unit="bytes", message=f"fetching {source}: {files}")


def _read(readings: Sequence[Reading], shard_bytes: int, job: Job, reads: str) -> None:
    """Read each source in groups of files, each a task; a source with a bound is one group."""
    unbounded = [reading for reading in readings if reading.source.max_bytes is None]
    listings = [
        Task(
            name=f"list {reading.source.name}",
            reads=reads,
            output=job.scratch / "listed" / f"{reading.source.name}.json",
            call=partial(list_files, reading.source),
        )
        for reading in unbounded
    ]
    left_out = map_tasks(listings, job, unit="sources")
    calls: list[tuple[Reading, Callable[[Path], Any]]] = [
        (reading, partial(read_bounded, reading.source, shard_bytes))
        for reading in readings
        if reading.source.max_bytes is not None
    ]
    for reading, listing, found in zip(unbounded, listings, left_out, strict=True):
        reading.files_left_out = found
        for units in listed_groups(listing.output, shard_bytes):
            calls.append((reading, partial(read_group, reading.source, units, shard_bytes)))
    tasks = [
        Task(
            name=f"read {reading.source.name}, group {number}",
            reads=reads,
            output=job.scratch / "read" / f"{number:06d}",
            call=call,
        )
        for number, (reading, call) in enumerate(calls)
    ]
    results = map_tasks(tasks, job, unit="groups of files")
    for (reading, _), task, found in zip(calls, tasks, results, strict=True):
        reading.groups.append(Group(folder=task.output, **found))


def _name_shards(readings: Sequence[Reading], job: Job, reads: str) -> None:
    """Number the shards of each source; of those with ids that stood before, change the ids."""
    shards = [
        (reading, group.folder, number)
        for reading in readings
        for group in reading.groups
        for number in range(len(group.documents))
    ]
    repeated = _repeated_ids(shards, sum(each.documents for each in readings), job, reads)
    files: dict[Path, Path] = {}
    renamed: list[Task] = []
    counts = Counter(reading.source.name for reading, _, _ in shards)
    numbers = {name: numbered(count) for name, count in counts.items()}
    for place, (reading, folder, number) in enumerate(shards):
        source = reading.source.name
        name = Path(source, f"part-{next(numbers[source])}.jsonl.gz")
        written = {Path("documents", name): shard_path(folder, number)}
        if reading.source.attributes:
            written[Path("attributes", ELSEWHERE, name)] = attributes_path(folder, number)
        if place in repeated:
            tasks = [
                Task(
                    name=f"rename in {target}",
                    reads=reads,
                    output=job.scratch / "renamed" / target,
                    call=partial(rename, path, place, repeated[place]),
                )
                for target, path in written.items()
            ]
            renamed += tasks
            written = {target: task.output for target, task in zip(written, tasks, strict=True)}
        files |= written
    map_tasks(renamed, job, unit="files with repeated ids")
    for target, path in files.items():
        (job.folder / target).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, job.folder / target)  # a task's output stays, for another attempt


def _repeated_ids(
    shards: Sequence[tuple[Reading, Path, int]], documents: int, job: Job, reads: str
) -> dict[int, list[Path]]:
    """Return where the repeated ids of each shard stand, by its place, and count them."""
    keys = [keys_path(folder, number) for _, folder, number in shards]
    parts = partitions(documents)
    tasks = [
        Task(
            name=f"find repeated ids, part {part + 1}",
            reads=reads,
            output=job.scratch / "repeated" / f"{part:06d}.npy",
            call=partial(find_repeated, keys, part, parts),
        )
        for part in range(parts)
    ]
    repeated: dict[int, list[Path]] = defaultdict(list)
    for task, found in zip(tasks, map_tasks(tasks, job, unit="partitions of ids"), strict=True):
        for shard, count in found.items():
            repeated[int(shard)].append(task.output)
            shards[int(shard)][0].repeated_ids += count
    return repeated


def _link_excluded(readings: Sequence[Reading], folder: Path) -> None:
    """Give the files of excluded documents their place, where there are any."""
    files: dict[str, Path] = {}
    for reading in readings:
        found = [group.folder / EXCLUDED for group in reading.groups if group.excluded]
        for number, path in zip(numbered(len(found)), found, strict=True):
            files[f"{reading.source.name}/part-{number}.jsonl.gz"] = path
    if files:
        link_files(folder, files)


def _join_quarantines(found: Sequence[Group], log: Path, source: str) -> None:
    """Write what the groups of a source have quarantined as one file."""
    with atomic_path(log / "quarantine" / f"{source}.jsonl.gz") as beside, beside.open("wb") as out:
        for group in found:
            with (group.folder / QUARANTINE).open("rb") as rows:
                shutil.copyfileobj(rows, out)  # a gzip file may have several members


if __name__ == "__main__":
    run_job(RawConfig, make)
