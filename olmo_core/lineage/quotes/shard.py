"""A shard of a quotes index: where the fingerprints of some tokens lie, sorted by their hashes.

    NNNNNN.postings   a number of eight bytes per fingerprint, ascending: the leading bits of its
                      hash, then the token that it begins in. After them, per block of postings,
                      the first one, and xxh3 of the block
    NNNNNN.json       which tokens of which file these are; written last

A look-up reads one block, as a rule, and checks it; what is damaged is never taken for text that
is not there.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from olmo_core.data.files import Files
from olmo_core.errors import InputError
from olmo_core.files import atomic_path, read_json, write_json

SHARD_TOKENS = 1 << 27
_PLACE_BITS = 28  # of a token in a shard; its last fingerprints may begin beyond SHARD_TOKENS
_PLACES = np.uint64((1 << _PLACE_BITS) - 1)
_BLOCK = 2048  # postings: 16 KiB


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What is indexed in one shard: the matches that begin in tokens [start, stop) of a file."""

    file: str  # token file, relative to the tokens run folder
    start: int
    stop: int
    postings: int
    checksum: str  # xxh3 of the first postings and checksums of all blocks

    @classmethod
    def read(cls, path: Path) -> "Shard":
        """Read `NNNNNN.json`.

        Raises:
            InputError: it is malformed.
        """
        content: dict[str, Any] = read_json(path)
        names = {field.name for field in fields(cls)}
        if set(content) != names:
            raise InputError(f"{path}: expected an object with the keys {', '.join(sorted(names))}")
        return cls(**content)

    def holds(self, file: str, start: int, stop: int) -> bool:
        """Return whether it is of these tokens."""
        return (self.file, self.start, self.stop) == (file, start, stop)


def postings_path(folder: Path, number: int) -> Path:
    """Return the path of a shard's postings."""
    return folder / f"{number:06d}.postings"


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of what is said of a shard."""
    return folder / f"{number:06d}.json"


def postings_of(hashes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return a posting, uint64, of each fingerprint: its hash, and the token of the shard."""
    return (hashes & ~_PLACES) | tokens.astype(np.uint64)


def write_shard(
    folder: Path, number: int, postings: np.ndarray, *, file: str, start: int, stop: int
) -> Shard:
    """Write the postings of a shard, which are sorted here, in place; then what is said of it.

    Args:
        folder: Of the index.
        number: Of the shard.
        postings: See `postings_of`; one may occur more than once.
        file: The token file.
        start: First of its tokens.
        stop: One after the last.
    """
    postings.sort()
    content = postings[np.append(postings[1:] != postings[:-1], True)[: len(postings)]]
    content = content.astype("<u8", copy=False)
    blocks = [content[at : at + _BLOCK] for at in range(0, len(content), _BLOCK)]
    table = np.array(
        [[block[0] for block in blocks], [xxh3_64_intdigest(block.data) for block in blocks]],
        dtype="<u8",
    )
    with atomic_path(postings_path(folder, number)) as beside, beside.open("wb") as out:
        out.write(content.data)
        out.write(table.tobytes())
    shard = Shard(
        file=file,
        start=start,
        stop=stop,
        postings=len(content),
        checksum=f"{xxh3_64_intdigest(table.tobytes()):016x}",
    )
    write_json(shard_path(folder, number), asdict(shard))
    return shard


class Postings:
    """Look up where fingerprints lie in a shard.

    Args:
        path: `NNNNNN.postings`.
        shard: What is said of it.
        files: Who reads it.

    Raises:
        InputError: it is missing, truncated or damaged.
    """

    def __init__(self, path: Path, shard: Shard, files: Files) -> None:
        self.shard = shard
        self._path = path
        self._files = files
        blocks = -(-shard.postings // _BLOCK)
        expected, found = 8 * (shard.postings + 2 * blocks), files.size(str(path))
        if found != expected:
            raise InputError(f"{path}: {found} bytes, expected {expected}: truncated or replaced")
        table = self._read(shard.postings, 2 * blocks)
        if f"{xxh3_64_intdigest(table.tobytes()):016x}" != shard.checksum:
            raise InputError(f"{path}: damaged: another checksum than written; build it anew")
        self._first, self._checksums = table.reshape(2, blocks)

    def ranges(self, fingerprints: np.ndarray) -> np.ndarray:
        """Return which postings [first, stop) are of each hash, int64 (n, 2).

        It reads a block of each, or two, whatever the number of its postings.

        Raises:
            InputError: a block of the file is damaged.
        """
        found = np.zeros((len(fingerprints), 2), dtype=np.int64)
        if not len(self._first):
            return found
        lows, highs = fingerprints & ~_PLACES, fingerprints | _PLACES
        heads = np.maximum(np.searchsorted(self._first, lows, "left") - 1, 0).tolist()
        tails = np.maximum(np.searchsorted(self._first, highs, "right") - 1, 0).tolist()
        for number, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            block = self._block(head)
            found[number, 0] = _BLOCK * head + np.searchsorted(block, lows[number], "left")
            if tail != head:
                block = self._block(tail)
            found[number, 1] = _BLOCK * tail + np.searchsorted(block, highs[number], "right")
        return found

    def tokens(self, first: int, stop: int) -> np.ndarray:
        """Return the tokens of the file, int64, that postings [first, stop) begin in.

        Those of one hash ascend.

        Raises:
            InputError: a block of the file is damaged.
        """
        start = first // _BLOCK
        blocks = [self._block(number) for number in range(start, -(-stop // _BLOCK))]
        joined = np.concatenate(blocks) if blocks else np.empty(0, np.uint64)
        chosen = joined[first - start * _BLOCK : stop - start * _BLOCK]
        return (chosen & _PLACES).astype(np.int64) + self.shard.start

    def _block(self, number: int) -> np.ndarray:
        start = number * _BLOCK
        block = self._read(start, min(_BLOCK, self.shard.postings - start))
        if xxh3_64_intdigest(block.data) != int(self._checksums[number]):
            raise InputError(
                f"{self._path}: bytes {8 * start} to {8 * (start + len(block))}: damaged: "
                "another checksum than written; build it anew"
            )
        return block

    def _read(self, start: int, count: int) -> np.ndarray:
        content: np.ndarray[Any, Any] = np.empty(count, dtype="<u8")
        self._files.read_into(str(self._path), 8 * start, content.view(np.uint8).data)
        return content
