"""Make ids unique: of documents with one id the first keeps it, in the order of path and line.

The ids of a shard are held as keys of 128 bits, sorted, so that a reduce reads one range of each:
its memory is bounded by a partition.
"""

import hashlib
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olmo_core.corpus.rows import read_rows, write_rows

PARTITION = 1 << 22  # keys that one reduce holds, on average: 40 bytes each, and as many to sort

# Rows of a file of keys, and of one of repeated ids: unsigned 64-bit integers.
_HIGH, _LOW, _ROW, _MARK = range(4)
_SHARD = 4


class Keys:
    """The keys of a shard's ids, and what each document's id gets where an earlier one has it."""

    def __init__(self) -> None:
        self._digests = array("Q")  # high, low, high, …
        self._marks = array("Q")

    def add(self, name: str, file: str, line: int) -> None:
        """Add the id of the next document, which was read from this file and line."""
        self._digests.frombytes(hashlib.blake2b(name.encode(), digest_size=16).digest())
        self._marks.append(mark(file, line, name))

    def write(self, path: Path) -> None:
        """Write an array [4, documents], sorted by key: high and low half, row, mark."""
        high, low = np.frombuffer(self._digests, np.uint64).reshape(-1, 2).T
        marks = np.frombuffer(self._marks, np.uint64)
        order = np.lexsort((low, high))
        rows = np.stack([high, low, np.arange(len(high), dtype=np.uint64), marks])
        np.save(path, np.take(rows, order, axis=1))


def mark(file: str, line: int, name: str) -> int:
    """Return what tells a document from earlier ones of its id: a hash of file, line and id."""
    place = f"{file}\0{line}\0{name}".encode()
    return int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), sys.byteorder)


def partitions(documents: int) -> int:
    """Return the number of reduces for so many documents."""
    return 1 + documents // PARTITION


def find_repeated(keys: Sequence[Path], part: int, parts: int, out: Path) -> dict[str, int]:
    """Write which documents have the id of an earlier one, among the ids of one partition.

    Args:
        keys: The files of all shards, in the order of the documents.
        part: Number of the partition.
        parts: How many there are.
        out: Is an array [3, repeated]: shard, row and mark, sorted.

    Returns:
        The number of repeated ids by number of the shard, where there are any.
    """
    bounds = [part * 2**64 // parts, (part + 1) * 2**64 // parts - 1]
    held: list[np.ndarray] = []
    for number, path in enumerate(keys):
        found = np.load(path, mmap_mode="r")
        start = np.searchsorted(found[_HIGH], np.uint64(bounds[0]), side="left")
        end = np.searchsorted(found[_HIGH], np.uint64(bounds[1]), side="right")
        shard = np.full((1, end - start), number, np.uint64)
        held.append(np.concatenate([found[:, start:end], shard]))
    rows = np.concatenate(held, axis=1)
    order = np.lexsort((rows[_ROW], rows[_SHARD], rows[_LOW], rows[_HIGH]))
    rows = np.take(rows, order, axis=1)
    again = np.all(rows[: _LOW + 1, 1:] == rows[: _LOW + 1, :-1], axis=0)
    repeated = rows[[_SHARD, _ROW, _MARK], 1:][:, again]
    repeated = np.take(repeated, np.lexsort((repeated[1], repeated[0])), axis=1)
    with out.open("wb") as file:
        np.save(file, repeated)
    shards, numbers = np.unique(repeated[0], return_counts=True)
    return dict(zip(map(str, shards.tolist()), numbers.tolist(), strict=True))


def rename(shard: Path, number: int, repeated: Sequence[Path], out: Path) -> None:
    """Write a shard, or its attributes, with `~` and a mark behind ids that stood before."""
    marks: dict[int, int] = {}  # by row
    for path in repeated:
        found = np.load(path, mmap_mode="r")
        start, end = np.searchsorted(found[0], np.array([number, number + 1], np.uint64))
        marks.update(zip(found[1, start:end].tolist(), found[2, start:end].tolist(), strict=True))
    rows = enumerate(read_rows(shard))
    write_rows(
        out,
        (row | {"id": f"{row['id']}~{marks[at]:016x}"} if at in marks else row for at, row in rows),
    )
