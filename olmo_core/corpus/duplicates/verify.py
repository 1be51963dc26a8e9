"""Candidates for near copies compared by all their shingles."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates.columns import Array, as_array
from olmo_core.corpus.duplicates.keys import (
    BATCH_ROWS,
    Group,
    PartitionedFile,
    answers,
    by_group,
    give,
    place,
    query,
    read_partition,
    shard_numbers,
)
from olmo_core.corpus.duplicates.shingles import Shingler, in_batches, jaccard
from olmo_core.corpus.rows import parse_row, read_lines

LINKS = {"first": "uint64", "later": "uint64"}
# A pair is found in each band that its documents share. In this order one file of sets is read
# after the other.
EACH_ONCE = "select distinct first, later, equal from pairs order by later, first"


def shingle_candidates(
    pairs: Sequence[Path], group: Group, groups: int, words: int, out: Path
) -> None:
    """Write the shingles of a group's documents that must be compared; read by `Sets`."""
    wanted = _wanted([folder / "places.arrow" for folder in pairs], group, groups)
    shingler = Shingler(words)
    ends = [0]
    out.mkdir()
    np.save(out / "places.npy", wanted)
    with (out / "shingles.bin").open("wb") as shingles:
        for texts in in_batches(_texts(group, wanted)):
            hashes, offsets, _ = shingler.hashes(texts)
            for begin, end in pairwise(offsets.tolist()):
                values = np.unique(hashes[begin:end])
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
    """The sets of shingles of a group's candidates, on the disk."""

    def __init__(self, folder: Path) -> None:
        self._places = np.load(folder / "places.npy")
        self._ends = np.load(folder / "ends.npy")
        file = folder / "shingles.bin"
        empty = not file.stat().st_size
        self._shingles: Array = np.zeros(0, np.uint64) if empty else np.memmap(file, np.uint64, "r")

    def spans(self, places: Array) -> tuple[Array, Array]:
        """Return where the shingles of each of these documents begin and end in `between`."""
        numbers = np.searchsorted(self._places, places)
        return self._ends[numbers], self._ends[numbers + 1]

    def between(self, begin: int, end: int) -> Array:
        """Return the shingles of one document, each once, sorted."""
        return self._shingles[begin:end]


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
    files = [folder / "pairs.arrow" for folder in pairs]
    counts = Counter[str](compared=0, found=0)
    own = Sets(sets[group.number])
    with query(out) as connection, PartitionedFile(out, LINKS, 1) as links:
        give(connection, "pairs", files, group.number, len(groups))
        for rows in answers(connection, EACH_ONCE):
            similar = rows["equal"].copy()
            others = np.where(similar, -1, by_group(rows["later"], groups))
            numbers: list[int] = np.unique(others[~similar]).tolist()
            for number in numbers:
                at = np.flatnonzero(others == number)
                given = rows["first"][at], rows["later"][at]
                similar[at] = _alike(own, Sets(sets[number]), *given, threshold)
            kept = {name: rows[name][similar] for name in LINKS}
            links.write(kept, np.zeros(len(kept["first"]), np.int64))
            compared = ~rows["equal"]
            counts.update(compared=int(compared.sum()), found=int(similar[compared].sum()))
    return dict(counts)


def _alike(own: Sets, other: Sets, first: Array, later: Array, threshold: float) -> Array:
    """Return which documents are near copies of the other of their pair, bool (pairs,)."""
    spans = [*own.spans(first), *other.spans(later)]
    sizes = [spans[1] - spans[0], spans[3] - spans[2]]
    alike = np.minimum(*sizes) >= threshold * np.maximum(*sizes)
    for row in np.flatnonzero(alike).tolist():
        a, b, c, d = (int(span[row]) for span in spans)
        alike[row] = jaccard(own.between(a, b), other.between(c, d)) >= threshold
    return alike
