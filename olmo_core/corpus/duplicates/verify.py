"""Candidates for near copies compared by all their shingles."""

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from olmo_core.corpus.duplicates.bands import PAIRS
from olmo_core.corpus.duplicates.buckets import differs, pairs_once
from olmo_core.corpus.duplicates.columns import Array, as_array
from olmo_core.corpus.duplicates.keys import (
    BATCH_ROWS,
    Group,
    PartitionedFile,
    by_group,
    columns_of,
    place,
    read_chunks,
    read_partition,
    shard_numbers,
)
from olmo_core.corpus.duplicates.shingles import Shingler, in_batches, jaccard
from olmo_core.corpus.rows import parse_row, read_lines

SHINGLE_BYTES = 8
LINKS = {"first": "uint64", "later": "uint64"}


def shingle_candidates(
    pairs: Sequence[Path], group: Group, groups: int, words: int, out: Path
) -> None:
    """Write the shingles of a group's documents that must be compared; read by `Sets`."""
    wanted = _wanted([folder / "places.arrow" for folder in pairs], group, groups)
    shingler = Shingler(words)
    ends = array("q", [0])
    out.mkdir()
    np.save(out / "places.npy", wanted)
    with (out / "shingles.bin").open("wb") as shingles:
        for texts in in_batches(_texts(group, wanted)):
            hashes, offsets, _ = shingler.hashes(texts)
            for begin, end in pairwise(offsets.tolist()):
                values = np.sort(hashes[begin:end])
                values = values[differs(values)]
                shingles.write(values.tobytes())
                ends.append(ends[-1] + len(values))
    if len(ends) != len(wanted) + 1:
        raise RuntimeError(f"{out}: {len(ends) - 1} texts read, {len(wanted)} wanted")
    np.save(out / "ends.npy", np.array(ends))


def _texts(group: Group, wanted: Array) -> Iterator[str]:
    """Yield the texts at these places of a group; the others' lines are not even parsed."""
    for shard, path in group.numbered:
        here = wanted[shard_numbers(wanted) == shard] - np.uint64(place(shard, 0))
        left = iter(here.tolist())
        following = next(left, None)
        if following is None:
            continue
        for line, row in read_lines(path):
            if line == following:
                yield parse_row(row, f"{path}:{line}")["text"]
                following = next(left, None)
                if following is None:
                    break


def _wanted(files: Sequence[Path], group: Group, groups: int) -> Array:
    """Return the places of a group's documents that must be compared, each once, sorted."""
    wanted = np.zeros(0, np.uint64)
    found: list[Array] = []
    left = BATCH_ROWS
    for batch in read_partition(files, group.number, groups):
        found.append(as_array(batch.column("place")))
        left -= len(batch)
        if left <= 0:  # a document stands in as many partitions as it has bands
            wanted, found, left = np.unique(np.concatenate([wanted, *found])), [], BATCH_ROWS
    return np.unique(np.concatenate([wanted, *found]))


class Sets:
    """The sets of shingles of a group's candidates, on the disk; a context manager.

    A map of the file would keep in memory what has been touched of it: all of a group, in the end.
    """

    def __init__(self, folder: Path) -> None:
        self._places = np.load(folder / "places.npy")
        self._ends = np.load(folder / "ends.npy")
        self._shingles = (folder / "shingles.bin").open("rb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shingles.close()

    def spans(self, places: Array) -> tuple[Array, Array]:
        """Return where the shingles of each of these documents begin and end in `between`."""
        numbers = np.searchsorted(self._places, places)
        return self._ends[numbers], self._ends[numbers + 1]

    def between(self, begin: int, end: int) -> Array:
        """Return the shingles of one document, each once, sorted.

        Raises:
            EOFError: the file ends before.
        """
        size, at = SHINGLE_BYTES * (end - begin), SHINGLE_BYTES * begin
        content = os.pread(self._shingles.fileno(), size, at)
        if len(content) < size:
            raise EOFError(f"{self._shingles.name}: ends before byte {at + size}")
        return np.frombuffer(content, np.uint64)


def verify_group(
    pairs: Sequence[Path],
    sets: Sequence[Path],
    group: Group,
    groups: Sequence[Group],
    threshold: float,
    out: Path,
) -> dict[str, int]:
    """Write the pairs of near copies whose first document lies in a group.

    Returns:
        The pairs that were compared, and those found; documents of the same words count as neither.
    """
    counts = {"compared": 0, "found": 0}
    with (
        Sets(sets[group.number]) as own,
        tempfile.TemporaryDirectory(dir=out.parent) as scratch,
        PartitionedFile(out, LINKS, 1) as to,
    ):
        files = [folder / "pairs.arrow" for folder in pairs]
        for first, later, equal in ranges(
            files, group.number, len(groups), Path(scratch) / "by_later"
        ):
            _write(to, first[equal], later[equal])
            first, later = pairs_once(first[~equal], later[~equal])
            bounds = np.searchsorted(by_group(later, groups), np.arange(len(groups) + 1))
            alike = np.zeros(len(later), bool)
            for number, (begin, end) in enumerate(pairwise(bounds.tolist())):
                if begin < end:
                    some = first[begin:end], later[begin:end]
                    with Sets(sets[number]) as other:
                        alike[begin:end] = _alike(own, other, *some, threshold)
            _write(to, first[alike], later[alike])
            counts["compared"] += len(later)
            counts["found"] += int(alike.sum())
    return counts


def _write(links: PartitionedFile, first: Array, later: Array) -> None:
    links.write({"first": first, "later": later}, np.zeros(len(first), np.int64))


def ranges(
    files: Sequence[Path], number: int, partitions: int, scratch: Path
) -> Iterator[tuple[Array, ...]]:
    """Yield the pairs of one partition by ranges of their later document, in order.

    A pair is found in each band that its documents share: all of it is in one range.
    """
    chunks = partial(read_chunks, files, tuple(PAIRS), number, partitions)
    some, rows = [np.zeros(0, np.uint64)], 0
    for _, later, _ in chunks():
        some.append(later[:: max(1, BATCH_ROWS >> 10)])
        rows += len(later)
    count = 1 + rows // BATCH_ROWS
    ordered = np.sort(np.concatenate(some))
    bounds = ordered[np.arange(1, count) * len(ordered) // count]
    with PartitionedFile(scratch, PAIRS, count) as out:
        for columns in chunks():
            given = dict(zip(PAIRS, columns, strict=True))
            out.write(given, np.searchsorted(bounds, given["later"], side="right"))
    for part in range(count):
        batches = [batch for batch in read_partition([scratch], part, count) if len(batch)]
        if batches:
            yield columns_of(batches, tuple(PAIRS))


def _alike(own: Sets, other: Sets, first: Array, later: Array, threshold: float) -> Array:
    """Return which documents are near copies of the other of their pair, bool (pairs,)."""
    spans = [*own.spans(first), *other.spans(later)]
    sizes = [spans[1] - spans[0], spans[3] - spans[2]]
    alike = np.minimum(*sizes) >= threshold * np.maximum(*sizes)
    for row in np.flatnonzero(alike).tolist():
        a, b, c, d = (int(span[row]) for span in spans)
        alike[row] = jaccard(own.between(a, b), other.between(c, d)) >= threshold
    return alike
