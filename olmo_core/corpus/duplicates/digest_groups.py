"""The digests of all documents, by group of shards, cut by partition; and what is known of each.

Text is read once. The lines that a batch of documents repeats of itself are settled where it is
read, so that a common line is shuffled once per batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from olmo_core.corpus.document import Document, read_documents
from olmo_core.corpus.duplicates.columns import arrow, as_column, parquet, read_batches
from olmo_core.corpus.duplicates.digests import READ, Batch, held_out_digests, id_keys
from olmo_core.corpus.duplicates.earlier import read_earlier
from olmo_core.corpus.duplicates.keys import BATCH_ROWS, Group, PartitionedFile, by_key, place
from olmo_core.run.job import Job
from olmo_core.tasks.map import Task, map_tasks

KEYS_FILE = "keys.arrow"  # of a group of documents, in the folder of what is known of them
# `key`, `low`: a digest of 128 bits. `kind`: the bit of `COPIES`, 0 of a paragraph. `characters`:
# of a paragraph with its line break; of a URL `whole_text`.
KEYS = {
    "key": "uint64",
    "low": "uint64",
    "place": "uint64",
    "kind": "uint8",
    "characters": "uint32",
}


@dataclass(frozen=True, kw_only=True)
class Digested:
    """What the groups of shards have left."""

    files: list[Path]  # of keys, each cut by partition
    known: list[Path]  # per group of documents, the folder of what is known of each
    paragraphs: int  # of the documents, those that count


def digest_documents(
    groups: Sequence[Group],
    earlier: Sequence[Group],
    paloma: Path,
    job: Job,
    *,
    reads: str,
    min_bytes: int,
    partitions: int,
) -> Digested:
    """Digest documents and those of earlier corpora, as tasks.

    Args:
        groups: Of the documents' shards.
        earlier: Of the files of earlier corpora; nothing but keys is left of them.
        paloma: The perplexity set.
        job: Its scratch folder holds the keys.
        reads: Digest of the input.
        min_bytes: Shorter paragraphs do not count.
        partitions: Of the keys.
    """
    plan = f"of {len(groups)} groups and {partitions} partitions"
    own = [
        Task(
            name=f"digest group {group.number} {plan}",
            reads=reads,
            output=job.scratch / "digests" / f"{group.number:05d}",
            call=partial(digest_group, group, paloma, min_bytes, partitions),
        )
        for group in groups
    ]
    stood = [
        Task(
            name=f"digest earlier group {group.number} of {len(earlier)} {plan}",
            reads=reads,
            output=job.scratch / "earlier" / f"{group.number:05d}.arrow",
            call=partial(digest_earlier, group, min_bytes, partitions),
        )
        for group in earlier
    ]
    counts = map_tasks([*own, *stood], job, unit="groups")[: len(own)]
    known = [task.output for task in own]
    may_repeat = stood or any(found["made_unique"] for found in counts)  # an id
    named = [
        Task(
            name=f"digest ids {group.number} {plan}",
            reads=reads,
            output=job.scratch / "ids" / f"{group.number:05d}.arrow",
            call=partial(digest_ids, group, folder, partitions),
        )
        for group, folder in zip(groups, known, strict=True)
        if may_repeat
    ]
    if named:
        map_tasks(named, job, unit="groups")
    return Digested(
        files=[*(folder / KEYS_FILE for folder in known), *(t.output for t in [*stood, *named])],
        known=known,
        paragraphs=sum(found["paragraphs"] for found in counts),
    )


def read_file(folder: Path, shard: int) -> Path:
    """Return where a group's task leaves what it read of one of its shards."""
    return folder / f"{shard:06d}.parquet"


def digest_ids(group: Group, known: Path, partitions: int, out: Path) -> None:
    """Write the keys of the ids of a group's documents."""
    with PartitionedFile(out, KEYS, partitions) as keys:
        for shard, _ in group.numbered:
            first = place(shard, 1)
            for batch in read_batches([read_file(known, shard)], BATCH_ROWS, ["id"]):
                rows = id_keys(batch.column("id").to_pylist(), first)
                keys.write(rows, by_key(rows["key"], partitions))
                first += len(batch)


def digest_group(
    group: Group, paloma: Path, min_bytes: int, partitions: int, out: Path
) -> dict[str, int]:
    """Write the keys of a group's texts and paragraphs, and what is known of each document.

    Returns:
        `paragraphs`: the number of those that count; `made_unique`: of ids that stood before.
    """
    held_out = set(held_out_digests(paloma, min_bytes))
    schema = arrow().schema(list(READ.items()))
    out.mkdir()
    counts = {"paragraphs": 0, "made_unique": 0}
    with PartitionedFile(out / KEYS_FILE, KEYS, partitions) as keys:
        for shard, path in group.numbered:
            with parquet().ParquetWriter(read_file(out, shard), schema) as known:
                for batch in _batches(shard, read_documents(path), held_out, min_bytes):
                    rows = batch.settle()
                    keys.write(rows, by_key(rows["key"], partitions))
                    columns = [as_column(batch.documents[each.name], each.type) for each in schema]
                    known.write_table(arrow().table(columns, schema=schema))
                    counts["paragraphs"] += len(batch.lines)
                    counts["made_unique"] += batch.made_unique
    return counts


def digest_earlier(group: Group, min_bytes: int, partitions: int, out: Path) -> None:
    """Write the keys of the texts, paragraphs, URLs and ids of a group of earlier corpora."""
    with PartitionedFile(out, KEYS, partitions) as keys:
        for shard, path in group.numbered:
            for batch in _batches(shard, read_earlier(path), set(), min_bytes):
                for rows in (batch.settle(), id_keys(batch.documents["id"], batch.first)):
                    keys.write(rows, by_key(rows["key"], partitions))


def _batches(
    shard: int, documents: Iterable[Document], held_out: set[bytes], min_bytes: int
) -> Iterator[Batch]:
    batch = Batch(first=place(shard, 1))
    for line, document in enumerate(documents, start=1):
        batch.add(document, held_out, min_bytes)
        if len(batch.lines) + len(batch.counts) >= BATCH_ROWS:
            yield batch
            batch = Batch(first=place(shard, line + 1))
    if batch.counts:
        yield batch
