"""Candidates for near copies compared by all their shingles."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates.keys import (
    BATCH_ROWS,
    Array,
    Group,
    PartitionedFile,
    answers,
    by_group,
    give,
    place,
    query,
    read_partition,
)
from olmo_core.corpus.duplicates.shingles import Shingler, jaccard
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
    left = iter(wanted.tolist())
    out.mkdir()
    np.save(out / "places.npy", wanted)
    with (out / "shingles.bin").open("wb") as shingles:
        following = next(left, None)
        for shard, path in group.numbered:
            for line, row in read_lines(path):
                if place(shard, line) == following:  # the others are not even parsed
                    text = parse_row(row, f"{path}:{line}")["text"]
                    values = np.unique(shingler.hashes([text])[0])
                    shingles.write(values.tobytes())
                    ends.append(ends[-1] + len(values))
                    following = next(left, None)
    np.save(out / "ends.npy", np.array(ends))


def _wanted(files: Sequence[Path], group: Group, groups: int) -> Array:
    """Return the places of a group's documents that must be compared, each once, sorted."""
    wanted = np.zeros(0, np.uint64)
    found: list[Array] = []
    left = BATCH_ROWS
    for batch in read_partition(files, group.number, groups):
        found.append(batch.column("place").to_numpy())
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

    def of(self, place: int) -> Array:
        """Return the shingles of a document, each once, sorted."""
        number = int(np.searchsorted(self._places, place))
        return self._shingles[self._ends[number] : self._ends[number + 1]]


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
                theirs = Sets(sets[number])
                for row in np.flatnonzero(others == number).tolist():
                    one, other = own.of(rows["first"][row]), theirs.of(rows["later"][row])
                    similar[row] = _alike(one, other, threshold)
            kept = {name: rows[name][similar] for name in LINKS}
            links.write(kept, np.zeros(len(kept["first"]), np.int64))
            compared = ~rows["equal"]
            counts.update(compared=int(compared.sum()), found=int(similar[compared].sum()))
    return dict(counts)


def _alike(one: Array, other: Array, threshold: float) -> bool:
    fewer, more = sorted((len(one), len(other)))
    return fewer >= threshold * more and jaccard(one, other) >= threshold
