"""Candidates for near copies compared by all their shingles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates.keys import (
    Array,
    Group,
    PartitionedFile,
    by_group,
    place,
    read_partition,
)
from olmo_core.corpus.duplicates.shingles import Shingler, jaccard
from olmo_core.corpus.rows import parse_row, read_lines

LINKS = {"first": "uint64", "later": "uint64"}


def shingle_candidates(
    pairs: Sequence[Path], group: Group, groups: int, words: int, out: Path
) -> None:
    """Write the shingles of a group's documents that must be compared; read by `Sets`."""
    files = [folder / "places.parquet" for folder in pairs]
    found = [
        batch.column("place").to_numpy() for batch in read_partition(files, group.number, groups)
    ]
    wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))
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
    files = [folder / "pairs.parquet" for folder in pairs]
    batches = [
        np.stack(
            [
                batch.column(name).to_numpy(zero_copy_only=False)
                for name in ("first", "later", "equal")
            ]
        )
        for batch in read_partition(files, group.number, len(groups))
    ]
    rows = np.unique(np.concatenate([np.zeros((3, 0), np.uint64), *batches], axis=1), axis=1)
    first, later, equal = rows.astype(np.uint64)
    similar = equal.astype(bool)
    own = Sets(sets[group.number])
    others = by_group(later, groups)
    numbers: list[int] = np.unique(others).tolist()
    for number in numbers:  # one group's file at a time
        theirs = Sets(sets[number])
        for row in np.flatnonzero((others == number) & (equal == 0)).tolist():
            similar[row] = _alike(own.of(first[row]), theirs.of(later[row]), threshold)
    with PartitionedFile(out, LINKS, 1) as links:
        kept = {"first": first[similar], "later": later[similar]}
        links.write(kept, np.zeros(len(kept["first"]), np.int64))
    compared = int((equal == 0).sum())
    return {"compared": compared, "found": int(similar.sum()) - (len(similar) - compared)}


def _alike(one: Array, other: Array, threshold: float) -> bool:
    fewer, more = sorted((len(one), len(other)))
    return fewer >= threshold * more and jaccard(one, other) >= threshold
