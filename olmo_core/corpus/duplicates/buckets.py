"""Buckets, the documents that share a key, and the pairs to compare in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.keys import BATCH_ROWS, read_column

# A document is compared with the first ones of each bucket that it is in: a bucket of n documents
# takes n × COMPARED comparisons, not n². In buckets of up to COMPARED + 1, all are made.
COMPARED = 64


def shared_keys(
    files: Sequence[Path], number: int, partitions: int, names: Sequence[str]
) -> dict[str, Array]:
    """Return the rows of one partition whose `key` stands there more than once."""
    keys = read_column(files, number, partitions, "key")
    order = np.argsort(keys)
    keys = keys[order]
    again = keys[1:] == keys[:-1]
    del keys
    shared = np.zeros(len(order), bool)
    shared[1:] |= again
    shared[:-1] |= again
    rows = order[shared]
    del order
    return {name: read_column(files, number, partitions, name)[rows] for name in names}


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """The documents of each bucket by their places, one of the documents with the same words."""

    places: Array  # of the documents of each bucket of two or more, in order, bucket by bucket
    ranks: Array  # of each document in its bucket, from 0
    sizes: Array  # of each bucket
    same: tuple[Array, Array]  # documents of the same words: the first one, a later one

    @classmethod
    def of(cls, rows: Mapping[str, Array]) -> "Buckets":
        """Return the buckets of rows of `key`, `words`, `place` and `band`, in any order.

        Documents of the same words are in the same buckets: the first stands for all of them. They
        are paired in their first band.
        """
        order = np.lexsort((rows["place"], rows["words"], rows["key"]))
        key, words, place = (rows[name][order] for name in ("key", "words", "place"))
        new_key = differs(key)
        new = new_key | differs(words)
        starts = np.flatnonzero(new)
        first = place[starts[np.cumsum(new) - 1]]
        later = (rows["band"][order] == 0) & (place > first)
        same = first[later], place[later]
        bucket, place = np.cumsum(new_key[starts]) - 1, place[starts]
        sizes = np.bincount(bucket)
        several = sizes[bucket] > 1
        bucket, place = bucket[several], place[several]
        place = place[np.lexsort((place, bucket))]
        sizes = sizes[sizes > 1]
        ranks = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return cls(places=place, ranks=ranks, sizes=sizes, same=same)

    def pairs(self) -> Iterator[tuple[Array, Array]]:
        """Yield the first and the later document of pairs, each pair once, some at a time."""
        by_later = np.argsort(self.places, kind="stable")
        counts = np.minimum(self.ranks[by_later], COMPARED)
        documents = np.flatnonzero(differs(self.places[by_later]))  # where each one's rows begin
        chunks = (np.cumsum(counts) - counts)[documents] // BATCH_ROWS
        bounds = np.append(documents[differs(chunks)], len(by_later))
        for begin, end in pairwise(bounds.tolist()):
            rows, many = by_later[begin:end], counts[begin:end]
            later = np.repeat(self.places[rows], many)
            before = np.repeat(rows - self.ranks[rows] - np.cumsum(many) + many, many)
            first = self.places[before + np.arange(len(before))]
            yield pairs_once(first, later)

    def left_out(self) -> dict[str, int]:
        """Return the buckets of which not all pairs are taken, and the pairs left out of them."""
        sizes = self.sizes[self.sizes > COMPARED + 1]
        pairs = (sizes - COMPARED - 1) * (sizes - COMPARED) // 2
        return {"buckets": len(sizes), "pairs": int(pairs.sum())}


def pairs_once(first: Array, later: Array) -> tuple[Array, Array]:
    """Return the same pairs by their later document, then the first one, each once."""
    order = np.lexsort((first, later))
    first, later = first[order], later[order]
    new = differs(first) | differs(later)
    return first[new], later[new]


def differs(values: Array) -> Array:
    """Return which values differ from the one before; the first does."""
    differs = np.ones(len(values), bool)
    differs[1:] = values[1:] != values[:-1]
    return differs
