"""Candidates for near copies: documents of which a band of MinHash values is equal."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olmo_core.corpus.document import read_documents, read_texts
from olmo_core.corpus.duplicates.buckets import NO_SHARDS, Buckets, shared_keys
from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.keys import (
    Group,
    PartitionedFile,
    by_group,
    by_key,
    place,
    slices,
)
from olmo_core.corpus.duplicates.shingles import Shingler, band_keys, in_batches, signatures

BANDS = {"key": "uint64", "words": "uint64", "place": "uint64", "band": "uint8"}
PAIRS = {"first": "uint64", "later": "uint64", "equal": "bool"}
PLACES = {"place": "uint64"}


def sign_group(
    group: Group,
    partitions: int,
    out: Path,
    *,
    words: int,
    permutations: int,
    bands: int,
    seed: int,
    earlier: range = NO_SHARDS,
) -> list[int]:
    """Write the keys of the bands of a group's documents; return the documents of each shard.

    Of `earlier` shards, which nobody has read yet, whole documents are checked.
    """
    shingler = Shingler(words)
    counts: list[int] = []
    with PartitionedFile(out, BANDS, partitions) as keys:
        for shard, path in group.numbered:
            counts.append(0)
            whole = shard in earlier
            read = (each.text for each in read_documents(path)) if whole else read_texts(path)
            for texts in in_batches(read):
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
    files: Sequence[Path],
    number: int,
    partitions: int,
    groups: Sequence[Group],
    out: Path,
    *,
    earlier: range = NO_SHARDS,
) -> dict[str, int]:
    """Write the pairs that share a key of one partition, but for those of `earlier` shards alone.

    `pairs.arrow` holds them by the group of the first; `equal` ones have the same words and need
    no comparison. `places.arrow` holds the documents that must be compared, by their group.

    Returns:
        The buckets of which not all pairs were taken, and the pairs left out of them.
    """
    out.mkdir()
    left_out = Counter(buckets=0, pairs=0)
    with (
        PartitionedFile(out / "pairs.arrow", PAIRS, len(groups)) as pairs,
        PartitionedFile(out / "places.arrow", PLACES, len(groups)) as places,
    ):

        def write(first: Array, later: Array, *, equal: bool) -> None:
            rows = {"first": first, "later": later, "equal": np.full(len(first), equal)}
            pairs.write(rows, by_group(first, groups))

        for part in slices(files, number, partitions, out / "keys.arrow"):
            buckets = Buckets.of(shared_keys(*part, tuple(BANDS)), earlier)
            for first, later in buckets.pairs():
                write(first, later, equal=False)
            write(*buckets.same, equal=True)
            compared = np.unique(buckets.places)
            places.write({"place": compared}, by_group(compared, groups))
            left_out.update(buckets.left_out())
    return dict(left_out)
