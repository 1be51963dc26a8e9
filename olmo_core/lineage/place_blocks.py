"""Places of documents in small blocks: a copy of a documents index's, for many short look-ups.

To decompress the 4,096 documents of a row group takes longer than all else of a look-up, and the
columns of each are five reads. A block has the next 128 documents of a token file, as one read.

    <token file>.blocks    blocks, msgpack in zstd; after them the directory: of each block its
                           first token, its place in the file, its size unpacked, and xxh3; last
                           the number of blocks and the xxh3 of the directory
    blocks.json            written last: the digest of the index, and the documents

What is read is checked: what is damaged is never taken for a document that is not there.
"""

import bisect
import functools
import importlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from olmo_core.data.document_index import PLACES, DocumentSpan
from olmo_core.errors import InputError
from olmo_core.files import atomic_path, read_json, write_json
from olmo_core.tasks.map import process_pool

arrow: Any = importlib.import_module("pyarrow")  # it has no types
parquet: Any = importlib.import_module("pyarrow.parquet")

SCHEMA_VERSION = 1
MARKER = "blocks.json"
BLOCK = 128  # documents
_AT_ONCE = BLOCK << 9  # documents in memory
_SUFFIX = ".blocks"
_DIRECTORY = np.dtype([("first", "<i8"), ("at", "<i8"), ("unpacked", "<i8"), ("xxh3", "<u8")])
_END = np.dtype([("blocks", "<i8"), ("xxh3", "<u8")])


class _Block(msgspec.Struct, array_like=True):
    """Documents that follow each other in a token file."""

    lengths: list[int]  # in tokens
    id: list[str]
    src: list[str]
    loc: list[int]


@dataclass(frozen=True, kw_only=True)
class BuiltBlocks:
    """What a build has done."""

    documents: int
    size_bytes: int


def build_blocks(
    index: Path,
    folder: Path,
    *,
    digest: str,
    processes: int,
    progress: Callable[[int, int], None],
) -> BuiltBlocks:
    """Write the places of an index in blocks; token files that are done are kept.

    Args:
        index: The documents index.
        folder: Of its blocks alone.
        digest: Of the content of the index, as its result says.
        processes: How many work at once.
        progress: Told the documents that are done, and all.

    Raises:
        InputError: a part of the index is damaged.
    """
    paths = sorted((index / PLACES).rglob("*.parquet"))
    counts = {path: _documents(path) for path in paths}
    total = sum(counts.values())
    outs = {path: _blocks_path(folder, path.relative_to(index / PLACES)) for path in paths}
    missing = [path for path in paths if not outs[path].is_file()]
    done = total - sum(counts[path] for path in missing)
    progress(done, total)
    try:
        with process_pool(processes) as pool:
            made = {pool.submit(write_blocks, path, outs[path]): path for path in missing}
            for future in as_completed(made):
                future.result()
                done += counts[made[future]]
                progress(done, total)
    except BrokenProcessPool:
        raise InputError(
            f"{folder}: a process ended before its blocks were written (killed, or out of memory); "
            "the same command goes on with what is left"
        ) from None
    content = {"schema_version": SCHEMA_VERSION, "index_digest": digest, "documents": total}
    write_json(folder / MARKER, content)
    return BuiltBlocks(
        documents=total, size_bytes=sum(path.stat().st_size for path in outs.values())
    )


def require_blocks_of(folder: Path, digest: str) -> None:
    """Refuse blocks that are not of an index.

    Args:
        folder: Of finished blocks.
        digest: Of the content of the index.

    Raises:
        InputError: they are of another one, or of another version.
    """
    path = folder / MARKER
    content = read_json(path)
    found = [content.get(key) for key in ("schema_version", "index_digest")]
    if found != [SCHEMA_VERSION, digest]:
        raise InputError(
            f"{path}: schema_version and index_digest are {found}; expected "
            f"{[SCHEMA_VERSION, digest]}: delete the folder, olmo trace index makes it again"
        )


def write_blocks(places: Path, out: Path) -> None:
    """Write the places of one token file in blocks.

    Args:
        places: Of an index, `places/<token file>.parquet`.
        out: The file to write; its folder is made.

    Raises:
        InputError: the places are damaged.
    """
    pack, encode = arrow.Codec("zstd").compress, msgspec.msgpack.encode
    directory: list[tuple[int, int, int, int]] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as beside, beside.open("wb") as file:
        at, end = 0, 0
        for starts, ends, *columns in _read(places):
            if not np.array_equal(starts, [end, *ends[:-1]]):
                raise InputError(f"{places}: a document does not begin where the one before ends")
            end = ends[-1]
            lengths = (ends - starts).tolist()
            for row in range(0, len(starts), BLOCK):
                rows = slice(row, row + BLOCK)
                unpacked = encode(_Block(lengths[rows], *(column[rows] for column in columns)))
                packed = pack(unpacked, asbytes=True)
                digest = xxh3_64_intdigest(packed)
                directory.append((int(starts[row]), at, len(unpacked), digest))
                at += file.write(packed)
        content = np.array(directory, dtype=_DIRECTORY).tobytes()
        file.write(content)
        file.write(np.array([(len(directory), xxh3_64_intdigest(content))], dtype=_END).tobytes())


class PlaceBlocks:
    """The documents of one token file, in blocks.

    Args:
        folder: Of the blocks of all token files.
        file: The token file.

    Raises:
        InputError: its blocks are not there, or damaged.
    """

    def __init__(self, folder: Path, file: str) -> None:
        self._name, self._path = file, folder / f"{file}{_SUFFIX}"
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise self._damaged(str(error)) from None
        size = os.fstat(self._file.fileno()).st_size
        last = self._read(max(0, size - _END.itemsize), _END.itemsize)
        [(blocks, digest)] = np.frombuffer(last, dtype=_END).tolist()
        self._ends_at = size - _END.itemsize - blocks * _DIRECTORY.itemsize
        if not 0 <= self._ends_at <= size:
            raise self._damaged(f"{blocks} blocks in {size} bytes")
        content = self._read(self._ends_at, blocks * _DIRECTORY.itemsize)
        if xxh3_64_intdigest(content) != digest:
            raise self._damaged("the directory is not what was written")
        self._directory = np.frombuffer(content, dtype=_DIRECTORY)
        self._unpack = arrow.Codec("zstd").decompress
        self._decode = msgspec.msgpack.Decoder(_Block).decode

    def between(self, bounds: np.ndarray) -> Iterator[list[DocumentSpan]]:
        """Yield the documents that hold tokens of each range, int64 (n, 2)."""
        starts = self._directory["first"]
        first = np.maximum(np.searchsorted(starts, bounds[:, 0], "right") - 1, 0)
        last = np.searchsorted(starts, bounds[:, 1], "left")
        block = functools.cache(self._block)  # for as long as these ranges take
        for (low, high), a, b in zip(bounds.tolist(), first.tolist(), last.tolist(), strict=True):
            yield [
                span for number in range(a, b) for span in self._spans(*block(number), low, high)
            ]

    def _spans(
        self, edges: Sequence[int], block: _Block, low: int, high: int
    ) -> Iterator[DocumentSpan]:
        """Yield the documents of a block that hold any of the tokens [low, high)."""
        first = bisect.bisect_right(edges, low, lo=1) - 1
        last = bisect.bisect_left(edges, high, hi=len(edges) - 1)
        for row in range(first, last):
            yield DocumentSpan(
                file=self._name,
                start=edges[row],
                end=edges[row + 1],
                id=block.id[row],
                src=block.src[row],
                loc=block.loc[row],
            )

    def _block(self, number: int) -> tuple[Sequence[int], _Block]:
        """Return a block, and where its documents begin and the last one ends."""
        first, at, unpacked, digest = self._directory[number].tolist()
        last = number + 1 == len(self._directory)
        until = self._ends_at if last else int(self._directory["at"][number + 1])
        packed = self._read(at, until - at)
        if xxh3_64_intdigest(packed) != digest:
            raise self._damaged(f"block {number} is not what was written")
        block = self._decode(self._unpack(packed, unpacked))
        return [*itertools.accumulate(block.lengths, initial=first)], block

    def _read(self, at: int, size: int) -> bytes:
        content = os.pread(self._file.fileno(), size, at)
        if len(content) != size:
            raise self._damaged(f"ends after {at + len(content)} bytes")
        return content

    def _damaged(self, what: str) -> InputError:
        return InputError(
            f"{self._path}: damaged: {what}; delete the folder, olmo trace index makes it again"
        )


def _blocks_path(folder: Path, places: Path) -> Path:
    """Return the path of the blocks of `<token file>.parquet`."""
    return folder / places.with_suffix(_SUFFIX)


def _documents(places: Path) -> int:
    try:
        return int(parquet.read_metadata(places).num_rows)
    except (OSError, ValueError) as error:
        raise InputError(f"{places}: not part of a documents index: {error}") from None


def _read(places: Path) -> Iterator[tuple[Any, ...]]:
    """Yield many rows at once: starts and ends as arrays; ids, srcs and locs as lists."""
    try:
        for batch in parquet.ParquetFile(places).iter_batches(batch_size=_AT_ONCE):
            numbers = (batch[name].to_numpy() for name in ("start", "end"))
            yield *numbers, *(batch[name].to_pylist() for name in ("id", "src", "loc"))
    except (OSError, ValueError) as error:
        raise InputError(f"{places}: not part of a documents index: {error}") from None
