"""Candidates for near copies: documents of which a band of MinHash values is equal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olmo_core.corpus.document import read_texts
from olmo_core.corpus.duplicates.keys import (
    Group,
    PartitionedFile,
    answers,
    by_group,
    by_key,
    give,
    place,
    query,
    slices,
)
from olmo_core.corpus.duplicates.shingles import Shingler, band_keys, in_batches, signatures

# A document is compared with the first ones of each bucket that it is in: a bucket of n documents
# takes n × COMPARED comparisons, not n². In buckets of up to COMPARED + 1, all are made.
COMPARED = 64

BANDS = {"key": "uint64", "words": "uint64", "place": "uint64", "band": "uint8"}
PAIRS = {"first": "uint64", "later": "uint64", "equal": "bool"}
PLACES = {"place": "uint64"}

# Documents of the same words are in the same buckets: the first stands for all of them.
STANDING = """
    create table members as
    select key, words, min(place) as place from keys group by key, words;
    create table ranked as
    select key, place, row_number() over (partition by key order by place) as rank
    from members semi join (select key from members group by key having count(*) > 1) using (key);
    create table pairs as
    select distinct a.place as first, b.place as later, false as equal
    from ranked a join ranked b on a.key = b.key and a.rank < b.rank
    where a.rank <= {compared};
    insert into pairs
    select members.place, keys.place, true
    from keys join members using (key, words) where band = 0 and keys.place > members.place;
"""
PLACES_OF_PAIRS = """
    select first as place from pairs where not equal
    union select later from pairs where not equal order by place
"""
LEFT_OUT = """
    select count(*), coalesce(sum((size - {compared} - 1) * (size - {compared}) // 2), 0)::bigint
    from (select max(rank) as size from ranked group by key) where size > {compared} + 1
"""


def sign_group(
    group: Group,
    partitions: int,
    out: Path,
    *,
    words: int,
    permutations: int,
    bands: int,
    seed: int,
) -> list[int]:
    """Write the keys of the bands of a group's documents; return the documents of each shard."""
    shingler = Shingler(words)
    counts: list[int] = []
    with PartitionedFile(out, BANDS, partitions) as keys:
        for shard, path in group.numbered:
            counts.append(0)
            for texts in in_batches(read_texts(path)):
                hashes, offsets, digests = shingler.hashes(texts)
                signed = signatures(hashes, offsets, permutations=permutations, seed=seed)
                key = band_keys(signed, bands).ravel()
                first = place(shard, 1 + counts[-1])
                places = np.arange(first, first + len(texts), dtype=np.uint64)
                rows = {
                    "key": key,
                    "words": np.repeat(digests, bands),
                    "place": np.repeat(places, bands),
                    "band": np.tile(np.arange(bands, dtype=np.uint8), len(texts)),
                }
                keys.write(rows, by_key(key, partitions))
                counts[-1] += len(texts)
    return counts


def pair_partition(
    files: Sequence[Path], number: int, partitions: int, groups: Sequence[Group], out: Path
) -> dict[str, int]:
    """Write the pairs that share a key of one partition.

    `pairs.arrow` holds them by the group of the first; `equal` ones have the same words and need
    no comparison. `places.arrow` holds the documents that must be compared, by their group.

    Returns:
        The buckets of which not all pairs were taken, and the pairs left out of them.
    """
    out.mkdir()
    buckets = left_out = 0
    with (
        PartitionedFile(out / "pairs.arrow", PAIRS, len(groups)) as pairs,
        PartitionedFile(out / "places.arrow", PLACES, len(groups)) as places,
    ):
        for part in slices(files, number, partitions, out / "keys.arrow"):
            with query(out) as connection:
                give(connection, "given", *part)
                connection.execute("create table keys as from given")
                connection.execute(STANDING.format(compared=COMPARED))
                for rows in answers(connection, "from pairs order by first, later"):
                    pairs.write(rows, by_group(rows["first"], groups))
                for rows in answers(connection, PLACES_OF_PAIRS):
                    places.write(rows, by_group(rows["place"], groups))
                [counts] = connection.execute(LEFT_OUT.format(compared=COMPARED)).fetchall()
                buckets, left_out = buckets + counts[0], left_out + counts[1]
    return {"buckets": buckets, "pairs": left_out}
