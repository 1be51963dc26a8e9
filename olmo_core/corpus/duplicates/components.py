"""Connected components of pairs of any number, in rounds over partitions of their nodes.

Rounds of large stars and small stars (Kiveris et al. 2014, "Connected Components in MapReduce and
Beyond"): each ties nodes to the least node that they know. A component that has become a star, all
nodes tied to the least, is set aside, so that later rounds read only what is left. Memory holds the
nodes of a partition, whatever the number of their neighbours; the disk, four times the pairs.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.keys import (
    PartitionedFile,
    by_key,
    read_chunks,
    read_partition,
    shard_numbers,
    table_file,
)

CLUSTERS = {"place": "uint64", "cluster": "uint64"}
EDGES = {"node": "uint64", "other": "uint64"}  # found in the partition of `node`
NODES = {"node": "uint64"}
PARTITION_EDGES = 1 << 20  # on average, at most; each pair is two
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # places are alike in their leading bits


@dataclass(frozen=True, kw_only=True)
class Known:
    """The nodes of one partition, sorted, and the least and the greatest neighbour of each."""

    nodes: Array
    least: Array
    most: Array

    @classmethod
    def of(cls, chunks: Iterable[tuple[Array, ...]]) -> "Known":
        """Return what is known of the nodes of edges, which are held some at a time."""
        known = cls(nodes=NONE, least=NONE, most=NONE)
        for nodes, others in chunks:
            columns = (
                np.concatenate((known.nodes, nodes)),
                np.concatenate((known.least, others)),
                np.concatenate((known.most, others)),
            )
            order = np.argsort(columns[0])
            nodes, least, most = (column[order] for column in columns)
            starts = np.flatnonzero(np.concatenate(([True], nodes[1:] != nodes[:-1])))
            known = cls(
                nodes=nodes[starts],
                least=np.minimum.reduceat(least, starts),
                most=np.maximum.reduceat(most, starts),
            )
        return known

    def rows(self, nodes: Array) -> Array:
        """Return the row of each of these nodes, which are all known."""
        return np.searchsorted(self.nodes, nodes)


NONE: Array = np.zeros(0, np.uint64)


def connect(
    links: Sequence[Path], shards: int, out: Path, *, earlier: range = range(0)
) -> dict[str, Any]:
    """Write the clusters that links make: each document's place, and that of its cluster's first.

    Returns:
        `sizes`: clusters by the number of their documents; `members`, `later` and `near_earlier`:
        documents of each shard in a cluster, those of them that are not its first, and those whose
        cluster begins in one of the `earlier` shards.
    """
    pairs = sum(map(len, read_partition(links, 0, 1)))
    partitions = 1 << (2 * pairs // PARTITION_EDGES).bit_length()
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        stars = Path(scratch) / "stars"
        with PartitionedFile(stars, EDGES, partitions) as found:
            tie_components(links, found, Path(scratch), shards)
        return _write_clusters(stars, partitions, shards, earlier, out)


def tie_components(
    links: Sequence[Path], stars: PartitionedFile, scratch: Path, shards: int
) -> int:
    """Write each node as `node`, and the least of its component as `other`.

    Args:
        links: Files of pairs, `first` and `later`; the greater one may be either.
        stars: Gets the nodes by ranges of shards, so that a partition's places follow on another's;
            a node may be given several times.
        scratch: A folder for what a round leaves to the next.
        shards: How many there are.

    Returns:
        The number of rounds.
    """
    partitions = stars.partitions
    edges, large, unsettled = (scratch / name for name in ("edges", "large", "unsettled"))
    with PartitionedFile(edges, EDGES, partitions) as out:
        for first, later in read_chunks(links, ("first", "later"), 0, 1):
            differ = first != later
            _write(out, first[differ], later[differ])
            _write(out, later[differ], first[differ])
    rounds = 0
    while True:
        with PartitionedFile(unsettled, NODES, partitions) as out:
            for number in range(partitions):
                _mark_unsettled(edges, number, out)
        with PartitionedFile(large, EDGES, partitions) as out:
            left = [
                _tie_greater(edges, unsettled, number, out, stars, shards)
                for number in range(partitions)
            ]
        if not any(left):
            return rounds
        with PartitionedFile(edges, EDGES, partitions) as out:
            for number in range(partitions):
                _tie_lesser(large, number, out)
        rounds += 1


def _mark_unsettled(edges: Path, number: int, out: PartitionedFile) -> None:
    """Write the nodes below one that is tied to others as well: they begin no finished star."""
    chunks = partial(read_chunks, [edges], tuple(EDGES), number, out.partitions)
    known = Known.of(chunks())
    tied_once = (known.least == known.most) & (known.most < known.nodes)
    for nodes, others in chunks():
        below = others[(others < nodes) & ~tied_once[known.rows(nodes)]]
        out.write({"node": below}, by_key(below * SPREAD, out.partitions))


def _tie_greater(
    edges: Path,
    unsettled: Path,
    number: int,
    out: PartitionedFile,
    stars: PartitionedFile,
    shards: int,
) -> bool:
    """Tie every neighbour above a node to the least of the neighbourhood; return whether any was.

    The rays of finished stars are written to `stars` instead.
    """
    chunks = partial(read_chunks, [edges], tuple(EDGES), number, out.partitions)
    known = Known.of(chunks())
    finished = known.least > known.nodes
    for (nodes,) in read_chunks([unsettled], tuple(NODES), number, out.partitions):
        finished[known.rows(nodes)] = False
    root = np.minimum(known.least, known.nodes)
    ends = known.nodes[finished]
    stars.write({"node": ends, "other": ends}, shard_numbers(ends) * stars.partitions // shards)
    left = False
    for nodes, others in chunks():
        above = others > nodes
        rows, others = known.rows(nodes[above]), others[above]
        done = finished[rows]
        shard = shard_numbers(others[done])
        rays = {"node": others[done], "other": known.nodes[rows[done]]}
        stars.write(rays, shard * stars.partitions // shards)
        _write(out, others[~done], root[rows[~done]])
        left = left or not done.all()
    return left


def _tie_lesser(large: Path, number: int, out: PartitionedFile) -> None:
    """Tie a node and its neighbours, which are all below it, to the least of them."""
    chunks = partial(read_chunks, [large], tuple(EDGES), number, out.partitions)
    known = Known.of(chunks())
    _write(out, known.nodes, known.least)
    _write(out, known.least, known.nodes)
    for nodes, others in chunks():
        root = known.least[known.rows(nodes)]
        pairs = np.stack((others, root))[:, others > root]
        pairs = pairs[:, np.lexsort(pairs)]
        new = np.ones(pairs.shape[1], bool)
        new[1:] = (pairs[:, 1:] != pairs[:, :-1]).any(0)  # many nodes know the same two
        low, root = pairs[:, new]
        _write(out, low, root)
        _write(out, root, low)


def _write(out: PartitionedFile, nodes: Array, others: Array) -> None:
    out.write({"node": nodes, "other": others}, by_key(nodes * SPREAD, out.partitions))


def _write_clusters(
    stars: Path, partitions: int, shards: int, earlier: range, out: Path
) -> dict[str, Any]:
    """Write the clusters by place, and count them; see `connect`."""
    members, later, near_earlier = np.zeros((3, shards), np.int64)
    beside = stars.with_name("clusters")
    with table_file(out, CLUSTERS) as add, PartitionedFile(beside, NODES, partitions) as clusters:
        for number in range(partitions):
            known = Known.of(read_chunks([stars], tuple(EDGES), number, partitions))
            if not len(known.nodes):
                continue
            add({"place": known.nodes, "cluster": known.least})
            at = shard_numbers(known.nodes)
            members += np.bincount(at, minlength=shards)
            later += np.bincount(at[known.nodes != known.least], minlength=shards)
            first = shard_numbers(known.least)
            of_earlier = (first >= earlier.start) & (first < earlier.stop)
            near_earlier += np.bincount(at[of_earlier], minlength=shards)
            clusters.write({"node": known.least}, by_key(known.least * SPREAD, partitions))
    sizes = Counter[int]()
    for number in range(partitions):
        counted = NONE, np.zeros(0, np.int64)
        for (nodes,) in read_chunks([beside], tuple(NODES), number, partitions):
            found, counts = np.unique(nodes, return_counts=True)
            counted = _added(np.concatenate((counted[0], found)), np.append(counted[1], counts))
        sizes.update(dict(zip(*np.unique(counted[1], return_counts=True), strict=True)))
    named = Counter[str]()
    for size, count in sorted(sizes.items()):
        named[str(size) if size <= 10 else "11-100" if size <= 100 else "more"] += int(count)
    counts = {"members": members, "later": later, "near_earlier": near_earlier}
    return {"sizes": dict(named), **{name: each.tolist() for name, each in counts.items()}}


def _added(nodes: Array, counts: Array) -> tuple[Array, Array]:
    """Return each node once, with the sum of its counts."""
    found, rows = np.unique(nodes, return_inverse=True)
    return found, np.bincount(rows, counts, len(found)).astype(np.int64)
