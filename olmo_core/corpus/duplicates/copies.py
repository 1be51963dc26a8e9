"""Exact copies of texts, paragraphs, URLs and ids, found by their digests.

Three maps: digests of each group of shards; per partition of them, how much of each document stood
before; per shard, the attributes.

The files of earlier corpora have the first numbers of shards. Their digests are shuffled too, and
nothing else of them is kept.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import shards
from olmo_core.corpus.duplicates.columns import as_array, parquet, read_batches
from olmo_core.corpus.duplicates.digest_groups import digest_documents, read_file
from olmo_core.corpus.duplicates.digests import READ
from olmo_core.corpus.duplicates.keys import (
    BATCH_ROWS,
    Group,
    PartitionedFile,
    answers,
    by_group,
    give,
    partition_count,
    place,
    query,
    read_partition,
    shard_groups,
    slices,
)
from olmo_core.corpus.duplicates.marks import COPIES, EARLIER, NEAR, URL, Mark, write_marks
from olmo_core.run.job import Job
from olmo_core.tasks.map import Task, map_tasks

REPEATED = {"place": "uint64", "copied": "uint8", "characters": "uint64"}
# The build side of the join holds only what is repeated. No aggregate depends on the order of rows.
# Pieces of the text that had a URL first do not repeat it. Below `own` lie earlier corpora.
COMPARE = f"""
    with repeated as (
        select key, low, min(place) as first, min(place) < {{own}}::ubigint as earlier,
            arg_min(characters, place) filter (kind = {COPIES[URL]}) as text
        from keys group by key, low having count(*) > 1 and max(place) >= {{own}}::ubigint
    )
    select place,
        bit_or(case when earlier and kind > 0 then kind + {COPIES[EARLIER]} else kind end)::utinyint
            as copied,
        coalesce(sum(characters) filter (kind = 0), 0)::ubigint as characters
    from again join repeated using (key, low)
    where place > first and place >= {{own}}::ubigint
        and (kind != {COPIES[URL]} or characters != text or earlier)
    group by place
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
    earlier: Sequence[Path] = (),
) -> tuple[list[dict[str, Any]], int]:
    """Write what each document repeats as attributes, shard by shard.

    Args:
        documents: The folder of shards.
        paloma: The perplexity set.
        clusters: Of near copies among the documents, as `held_out` leaves them, with those of
            earlier corpora.
        attributes: Where to write, under the shards' names.
        job: Its scratch folder holds the keys.
        reads: Digest of the input.
        min_bytes: Shorter paragraphs do not count.
        earlier: Files of earlier corpora, whose documents stand before all others.

    Returns:
        What `write_marks` says of each shard, in order; the number of paragraphs that count.
    """
    paths = shards(documents)
    groups, before = shard_groups(paths, first=len(earlier)), shard_groups(earlier)
    partitions = partition_count([*earlier, *paths])
    plan = f"of {len(groups)} groups and {partitions} partitions"
    found = digest_documents(
        groups, before, paloma, job, reads=reads, min_bytes=min_bytes, partitions=partitions
    )
    compared = [
        Task(
            name=f"compare partition {number} {plan}",
            reads=reads,
            output=job.scratch / "repeated" / f"{number:05d}.arrow",
            call=partial(compare_partition, found.files, number, partitions, groups),
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
    sought = [name for name in COPIES if earlier or name != EARLIER]
    marked = [
        Task(
            name=f"mark {path.relative_to(documents)} {plan}",
            reads=reads,
            output=attributes / path.relative_to(documents),
            call=partial(
                mark_shard,
                read_file(folder, shard),
                repeated,
                shard,
                group,
                len(groups),
                sought,
            ),
        )
        for group, folder in zip(groups, found.known, strict=True)
        for shard, path in group.numbered
    ]
    return map_tasks(marked, job, unit="shards"), found.paragraphs


def compare_partition(
    files: Sequence[Path], number: int, partitions: int, groups: Sequence[Group], out: Path
) -> None:
    """Write which documents repeat earlier ones by a key of one partition, by group of shards."""
    with PartitionedFile(out, REPEATED, len(groups)) as repeated:
        for part in slices(files, number, partitions, out.with_name(f"{out.name}.keys")):
            with query(out) as connection:
                for name in ("keys", "again"):
                    give(connection, name, *part)
                compare = COMPARE.format(own=place(groups[0].first, 0)) + "order by place"
                for rows in answers(connection, compare):
                    repeated.write(rows, by_group(rows["place"], groups))


def find_near_copies(clusters: Path, groups: Sequence[Group], out: Path) -> None:
    """Write which documents are near copies of an earlier one that stays, by group of shards."""
    with PartitionedFile(out, REPEATED, len(groups)) as repeated:
        for batch in read_batches([clusters], BATCH_ROWS):
            places, firsts = (as_array(batch.column(name)) for name in ("place", "cluster"))
            own = np.uint64(place(groups[0].first, 0))
            again = (places != firsts) & (places >= own)
            later, earlier = places[again], firsts[again] < own
            rows = {
                "place": later,
                "copied": (COPIES[NEAR] + COPIES[EARLIER] * earlier).astype(np.uint8),
                "characters": np.zeros(len(later), np.uint64),
            }
            repeated.write(rows, by_group(later, groups))


def mark_shard(
    known: Path,
    repeated: Sequence[Path],
    shard: int,
    group: Group,
    groups: int,
    sought: Sequence[str],
    out: Path,
) -> dict[str, Any]:
    """Write the attributes of one shard; return what `write_marks` says of it."""
    with parquet().ParquetFile(known) as file:
        table = file.read().combine_chunks()
    names: list[str] = table["id"].to_pylist()
    read = {name: as_array(table[name].combine_chunks()) for name in READ if name != "id"}
    characters = read["repeated"].copy()
    copied = np.zeros(len(names), np.uint8)
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
    return write_marks(out, marks, sought)
