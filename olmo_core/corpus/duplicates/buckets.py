"""Buckets, the documents that share a key, and the pairs to compare in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.keys import BATCH_ROWS, LINE_BITS, read_column

# A document is compared with the first ones of each bucket that it is in: a bucket of n documents
# takes n × COMPARED comparisons, not n². In buckets of up to COMPARED + 1, all are made. It is
# compared with as many of earlier corpora, and those not with each other.
COMPARED = 64
NO_SHARDS = range(0)
MARK = np.uint64(1 << 63)  # of a place in earlier corpora, while they are sorted behind the others


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
    """The documents of each bucket, one of those with the same words, to be compared.

    Behind the documents of a bucket stand those of earlier corpora, as many as are compared.
    """

    places: Array  # of each document, in order, bucket by bucket
    words: Array  # a digest of each one's
    sizes: Array  # of each bucket
    own: Array  # documents of each bucket that are of no earlier corpus: they stand first
    behind: int  # the places from here on are behind those of earlier corpora
    same: tuple[Array, Array]  # documents of the same words: the first one, a later one
    beyond: Array  # pairs of each bucket that are left out

    @classmethod
    def of(cls, rows: Mapping[str, Array], earlier: range = NO_SHARDS) -> "Buckets":
        """Return the buckets of rows of `key`, `words`, `place` and `band`, in any order.

        Documents of the same words are in the same buckets: the first stands for all of them, and
        the first of `earlier` shards for all of those. They are paired in their first band.
        """
        place, end = rows["place"], earlier.stop << LINE_BITS
        old = (place >= np.uint64(earlier.start << LINE_BITS)) & (place < np.uint64(end))
        place = place | MARK * old
        order = np.lexsort((place, rows["words"], rows["key"]))
        key, words, place = rows["key"][order], rows["words"][order], place[order]
        new_key = differs(key)
        new_words = new_key | differs(words)
        new = new_words | differs(place & MARK)
        starts = np.flatnonzero(new)
        same = _same(place, starts, new, new_words, rows["band"][order] == 0)
        bucket, words, place = np.cumsum(new_key[starts]) - 1, words[starts], place[starts]
        own, sizes = np.bincount(bucket, place < MARK).astype(np.int64), np.bincount(bucket)
        wanted = (sizes > 1) & (own > 0)
        several = wanted[bucket]
        bucket, words, place = (
            (np.cumsum(wanted) - 1)[bucket[several]],
            words[several],
            place[several],
        )
        order = np.lexsort((place, bucket))
        words, place = words[order], place[order]
        own, sizes = own[wanted], sizes[wanted]
        later = np.bincount(bucket, (place >= np.uint64(end)) & (place < MARK), len(own))
        beyond = np.maximum(own - COMPARED, 0)
        beyond = beyond * np.maximum(beyond - 1, 0) // 2
        beyond += later.astype(np.int64) * np.maximum(sizes - own - COMPARED, 0)
        kept = _ranks(sizes) < np.repeat(own + COMPARED, sizes)
        return cls(
            places=place[kept] & ~MARK,
            words=words[kept],
            sizes=np.minimum(sizes, own + COMPARED),
            own=own,
            behind=end,
            same=same,
            beyond=beyond,
        )

    def pairs(self) -> Iterator[tuple[Array, Array]]:
        """Yield the first and the later document of pairs, each pair once, some at a time."""
        rows, begins, counts = self._compared()
        by_later = np.argsort(self.places[rows], kind="stable")
        rows, begins, counts = rows[by_later], begins[by_later], counts[by_later]
        documents = np.flatnonzero(differs(self.places[rows]))  # where each one's rows begin
        chunks = (np.cumsum(counts) - counts)[documents] // BATCH_ROWS
        bounds = np.append(documents[differs(chunks)], len(rows))
        for begin, end in pairwise(bounds.tolist()):
            many = counts[begin:end]
            later = np.repeat(rows[begin:end], many)
            first = np.repeat(begins[begin:end] - np.cumsum(many) + many, many)
            first += np.arange(len(first))
            if (self.sizes > self.own).any():
                other = self.words[first] != self.words[later]
                first, later = first[other], later[other]
            yield pairs_once(self.places[first], self.places[later])

    def _compared(self) -> tuple[Array, Array, Array]:
        """Return rows of `places`, each with the row where those begin that it is compared with.

        Returns:
            Rows, once for the documents of a bucket and once for those of earlier corpora; where
            those begin that each is compared with; how many these are.
        """
        ranks = _ranks(self.sizes)
        own = np.repeat(self.own, self.sizes)
        rows = np.flatnonzero(ranks < own)
        begins, counts = rows - ranks[rows], np.minimum(ranks[rows], COMPARED)
        earlier = np.repeat(self.sizes, self.sizes) - own
        again = rows[(earlier[rows] > 0) & (self.places[rows] >= np.uint64(self.behind))]
        return (
            np.append(rows, again),
            np.append(begins, again - ranks[again] + own[again]),
            np.append(counts, earlier[again]),
        )

    def left_out(self) -> dict[str, int]:
        """Return the buckets of which not all pairs are taken, and the pairs left out of them."""
        return {"buckets": int((self.beyond > 0).sum()), "pairs": int(self.beyond.sum())}


def _ranks(sizes: Array) -> Array:
    """Return the number of each row in its bucket, from 0."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _same(
    place: Array, starts: Array, new: Array, new_words: Array, paired: Array
) -> tuple[Array, Array]:
    """Return the pairs of documents of the same words: the first of its kind, a later one.

    Args:
        place: Of rows by their key and words, those of earlier corpora, which are marked, last.
        starts: Rows in which documents of other words, or those of earlier corpora, begin.
        new: Whether each row is such a one.
        new_words: Whether other words begin in it.
        paired: Whether a row may be a later one.
    """
    paired = paired & (place < MARK)
    first = place[starts[np.cumsum(new) - 1]]
    later = paired & (place > first)
    marked = starts[place[starts] >= MARK]
    if not len(marked):
        return first[later], place[later]
    alike = np.cumsum(new_words) - 1
    of_earlier = np.zeros(1 + alike[-1], np.uint64)  # 0: there is none
    of_earlier[alike[marked]] = place[marked] & ~MARK
    before = of_earlier[alike]
    again = paired & (before > 0) & (place > before)
    return np.append(first[later], before[again]), np.append(place[later], place[again])


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
