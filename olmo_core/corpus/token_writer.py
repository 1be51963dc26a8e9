"""Write token files in dolma's layout: ids end to end, one row per document, and a header.

Documents keep their order and are never split; a file takes documents up to its limit of tokens.
"""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.format import Header, header_path, rows_path
from olmo_core.files import atomic_path, write_json


@dataclass(frozen=True, kw_only=True)
class EncodedFile:
    """The ids of one document file, in a raw array in the scratch folder, and its documents."""

    path: Path
    src: str  # document file, relative to the filtered run folder
    ids: list[str]
    lines: list[int]  # from 1
    lengths: list[int]  # tokens, EOS included
    text_bytes: int
    slow_reason: str  # why Hugging Face encoded it all; empty where tiktoken did


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A written token file."""

    name: str
    tokens: int
    documents: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A document in a token file."""

    start: int
    end: int
    id: str
    src: str
    loc: int


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Documents [first, stop) of an encoded file, for one shard."""

    file: EncodedFile
    first: int
    stop: int


def write_source(
    encoded: Sequence[EncodedFile], max_tokens: int, header: Header, folder: Path
) -> list[dict[str, Any]]:
    """Join the encoded files of one source, in order, into `folder/part-0-NNNNN.npy` …

    Args:
        encoded: At least one document in all.
        max_tokens: Of one file; a longer document has a file of its own.
        header: What the headers share; the counts are filled in.
        folder: Of the source.

    Returns:
        The fields of a `Shard` for each file.
    """
    shards: list[Shard] = []
    for number, slices in enumerate(plan(encoded, max_tokens)):
        path = folder / f"part-0-{number:05d}.npy"
        tokens = 0
        with atomic_path(path) as beside, beside.open("wb") as out:
            for part in slices:
                tokens += _copy(part, out, np.dtype(header.dtype).itemsize)
        documents = write_rows(rows_path(path), _rows(slices))
        counted = {**header.to_dict(), "tokens": tokens, "documents": documents}
        write_json(header_path(path), counted)
        shards.append(Shard(name=path.name, tokens=tokens, documents=documents))
    return [asdict(shard) for shard in shards]


def plan(encoded: Sequence[EncodedFile], max_tokens: int) -> list[list[_Slice]]:
    """Which documents go into which file: in order, a new file where the next does not fit."""
    shards: list[list[_Slice]] = []
    filled = max_tokens  # the first document opens the first file
    for file in encoded:
        first = 0
        for number, length in enumerate(file.lengths):
            if filled + length > max_tokens:
                if number > first:
                    shards[-1].append(_Slice(file=file, first=first, stop=number))
                shards.append([])
                first, filled = number, 0
            filled += length
        if len(file.lengths) > first:
            shards[-1].append(_Slice(file=file, first=first, stop=len(file.lengths)))
    return shards


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write `start,end,id,src,loc` rows (no heading, as dolma); returns their number."""
    count = 0
    with (
        atomic_path(path) as beside,
        beside.open("wb") as raw,
        # Neither the time nor the temporary name may get into the bytes.
        gzip.GzipFile("", "wb", 5, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        lines = csv.writer(text, lineterminator="\n")
        for row in rows:
            lines.writerow((row.start, row.end, row.id, row.src, row.loc))
            count += 1
    return count


def read_rows(path: Path) -> Iterator[Row]:
    """The rows beside a token file, ours or dolma's."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        for start, end, document, src, loc in csv.reader(text):
            yield Row(start=int(start), end=int(end), id=document, src=src, loc=int(loc))


def _copy(part: _Slice, out: io.BufferedWriter, itemsize: int) -> int:
    """Append a slice's tokens to a file; returns their number."""
    lengths = part.file.lengths
    tokens = sum(lengths[part.first : part.stop])
    left = tokens * itemsize
    with part.file.path.open("rb") as raw:
        raw.seek(sum(lengths[: part.first]) * itemsize)
        while left:
            piece = raw.read(min(left, 1 << 22))
            if not piece:
                raise EOFError(f"{part.file.path}: {left} bytes missing")
            out.write(piece)
            left -= len(piece)
    return tokens


def _rows(slices: Iterable[_Slice]) -> Iterator[Row]:
    start = 0
    for part in slices:
        for number in range(part.first, part.stop):
            end = start + part.file.lengths[number]
            yield Row(
                start=start,
                end=end,
                id=part.file.ids[number],
                src=part.file.src,
                loc=part.file.lines[number],
            )
            start = end
