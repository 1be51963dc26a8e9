"""Exact copies of texts, paragraphs, URLs and ids, found by their digests.

Three maps: digests of each group of shards; per partition of them, how much of each document stood
before; per shard, the attributes. Text is read once. What a batch of documents repeats of itself is
settled where it is read, so that a common line is shuffled once per batch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import read_documents, shards
from olmo_core.corpus.duplicates.columns import arrow, as_array, as_column, parquet, read_batches
from olmo_core.corpus.duplicates.digests import READ, Batch, held_out_digests, id_keys
from olmo_core.corpus.duplicates.keys import (
    BATCH_ROWS,
    Group,
    PartitionedFile,
    answers,
    by_group,
    by_key,
    give,
    partition_count,
    place,
    query,
    read_partition,
    shard_groups,
    slices,
)
from olmo_core.corpus.duplicates.marks import COPIES, NEAR, URL, Mark, write_marks
from olmo_core.run.job import Job
from olmo_core.tasks.map import Task, map_tasks

# `key`, `low`: a digest of 128 bits. `kind`: the bit of `COPIES`, 0 of a paragraph. `characters`:
# of a paragraph with its line break; of a URL `whole_text`.
KEYS = {
    "key": "uint64",
    "low": "uint64",
    "place": "uint64",
    "kind": "uint8",
    "characters": "uint32",
}
REPEATED = {"place": "uint64", "copied": "uint8", "characters": "uint64"}
# The build side of the join holds only what is repeated. No aggregate depends on the order of rows.
# Pieces of the text that had a URL first do not repeat it.
COMPARE = f"""
    with repeated as (
        select key, low, min(place) as first,
            arg_min(characters, place) filter (kind = {COPIES[URL]}) as text
        from keys group by key, low having count(*) > 1
    )
    select place, bit_or(kind) as copied,
        coalesce(sum(characters) filter (kind = 0), 0)::ubigint as characters
    from again join repeated using (key, low)
    where place > first and (kind != {COPIES[URL]} or characters != text) group by place
"""


def mark_copies(
    documents: Path,
    paloma: Path,
    clusters: Path,
    attributes: Path,
    job: Job,
    *,
    reads: str,
    min_bytes: int,
) -> tuple[list[dict[str, Any]], int]:
    """Write what each document repeats as attributes, shard by shard.

    Args:
        documents: The folder of shards.
        paloma: The perplexity set.
        clusters: Of near copies among the documents, as `held_out` leaves them.
        attributes: Where to write, under the shards' names.
        job: Its scratch folder holds the keys.
        reads: Digest of the input.
        min_bytes: Shorter paragraphs do not count.

    Returns:
        What `write_marks` says of each shard, in order; the number of paragraphs that count.
    """
    paths = shards(documents)
    groups, partitions = shard_groups(paths), partition_count(paths)
    plan = f"of {len(groups)} groups and {partitions} partitions"
    digested = [
        Task(
            name=f"digest group {group.number} {plan}",
            reads=reads,
            output=job.scratch / "digests" / f"{group.number:05d}",
            call=partial(digest_group, group, paloma, min_bytes, partitions),
        )
        for group in groups
    ]
    counts = map_tasks(digested, job, unit="groups")
    files = [task.output / "keys.arrow" for task in digested]
    if any(found["made_unique"] for found in counts):  # else no id can stand twice
        files += _digest_ids(groups, [task.output for task in digested], partitions, job, reads)
    compared = [
        Task(
            name=f"compare partition {number} {plan}",
            reads=reads,
            output=job.scratch / "repeated" / f"{number:05d}.arrow",
            call=partial(compare_partition, files, number, partitions, groups),
        )
        for number in range(partitions)
    ]
    compared.append(
        Task(
            name=f"near copies {plan}",
            reads=reads,
            output=job.scratch / "repeated" / "near.arrow",
            call=partial(find_near_copies, clusters, groups),
        )
    )
    map_tasks(compared, job, unit="partitions")
    repeated = [task.output for task in compared]
    marked = [
        Task(
            name=f"mark {path.relative_to(documents)} {plan}",
            reads=reads,
            output=attributes / path.relative_to(documents),
            call=partial(
                mark_shard, read_file(task.output, shard), repeated, shard, group, len(groups)
            ),
        )
        for group, task in zip(groups, digested, strict=True)
        for shard, path in group.numbered
    ]
    return map_tasks(marked, job, unit="shards"), sum(found["paragraphs"] for found in counts)


def read_file(folder: Path, shard: int) -> Path:
    """Return where a group's task leaves what it read of one of its shards."""
    return folder / f"{shard:06d}.parquet"


def _digest_ids(
    groups: Sequence[Group], known: Sequence[Path], partitions: int, job: Job, reads: str
) -> list[Path]:
    """Shuffle the ids of all documents as well; return the files of keys."""
    tasks = [
        Task(
            name=f"digest ids {group.number} of {len(groups)} groups and {partitions} partitions",
            reads=reads,
            output=job.scratch / "ids" / f"{group.number:05d}.arrow",
            call=partial(digest_ids, group, folder, partitions),
        )
        for group, folder in zip(groups, known, strict=True)
    ]
    map_tasks(tasks, job, unit="groups")
    return [task.output for task in tasks]


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
    with PartitionedFile(out / "keys.arrow", KEYS, partitions) as keys:
        for shard, path in group.numbered:
            with parquet().ParquetWriter(read_file(out, shard), schema) as known:
                for batch in _batches(shard, path, held_out, min_bytes):
                    rows = batch.settle()
                    keys.write(rows, by_key(rows["key"], partitions))
                    columns = [as_column(batch.documents[each.name], each.type) for each in schema]
                    known.write_table(arrow().table(columns, schema=schema))
                    counts["paragraphs"] += len(batch.lines)
                    counts["made_unique"] += batch.made_unique
    return counts


def _batches(shard: int, path: Path, held_out: set[bytes], min_bytes: int) -> Iterator[Batch]:
    batch = Batch(first=place(shard, 1))
    for line, document in enumerate(read_documents(path), start=1):
        batch.add(document, held_out, min_bytes)
        if len(batch.lines) >= BATCH_ROWS:
            yield batch
            batch = Batch(first=place(shard, line + 1))
    if batch.counts:
        yield batch


def compare_partition(
    files: Sequence[Path], number: int, partitions: int, groups: Sequence[Group], out: Path
) -> None:
    """Write which documents repeat earlier ones by a key of one partition, by group of shards."""
    with PartitionedFile(out, REPEATED, len(groups)) as repeated:
        for part in slices(files, number, partitions, out.with_name(f"{out.name}.keys")):
            with query(out) as connection:
                for name in ("keys", "again"):
                    give(connection, name, *part)
                for rows in answers(connection, COMPARE + "order by place"):
                    repeated.write(rows, by_group(rows["place"], groups))


def find_near_copies(clusters: Path, groups: Sequence[Group], out: Path) -> None:
    """Write which documents are near copies of an earlier one that stays, by group of shards."""
    with PartitionedFile(out, REPEATED, len(groups)) as repeated:
        for batch in read_batches([clusters], BATCH_ROWS):
            places, firsts = (as_array(batch.column(name)) for name in ("place", "cluster"))
            later = places[places != firsts]
            rows = {
                "place": later,
                "copied": np.full(len(later), COPIES[NEAR], np.uint8),
                "characters": np.zeros(len(later), np.uint64),
            }
            repeated.write(rows, by_group(later, groups))


def mark_shard(
    known: Path, repeated: Sequence[Path], shard: int, group: Group, groups: int, out: Path
) -> dict[str, Any]:
    """Write the attributes of one shard; return what `write_marks` says of it."""
    with parquet().ParquetFile(known) as file:
        table = file.read().combine_chunks()
    names: list[str] = table["id"].to_pylist()
    read = {name: as_array(table[name].combine_chunks()) for name in READ if name != "id"}
    copied, characters = read["copied"].copy(), read["repeated"].copy()
    first = place(shard, 1)
    for batch in read_partition(repeated, group.number, groups):
        rows = {name: as_array(batch.column(name)) for name in REPEATED}
        line = rows["place"] - np.uint64(first)  # wraps around for earlier shards
        here = line < len(copied)
        np.bitwise_or.at(copied, line[here], rows["copied"][here])
        np.add.at(characters, line[here], rows["characters"][here])
    marks = (
        Mark(
            id=name,
            characters=size,
            copied=int(copied[number]),
            repeated=round(int(characters[number]) / length, 6),
            contaminated=round(int(held) / length, 6),
        )
        for number, (name, size, length, held) in enumerate(
            zip(
                names,
                read["characters"].tolist(),
                read["length"].tolist(),
                read["contaminated"].tolist(),
                strict=True,
            )
        )
    )
    return write_marks(out, marks)
