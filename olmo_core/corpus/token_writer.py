"""Write token files in dolma's layout: ids end to end, one row per document, and a header.

Documents keep their order and are never split; a file takes documents up to its limit of tokens.
"""

import csv
import gzip
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from olmo_core.corpus.rows import packed
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


class Row(NamedTuple):
    """A document in a token file."""

    start: int
    end: int
    id: str
    src: str
    loc: int


def write_source(
    encoded: Sequence[EncodedFile], max_tokens: int, header: Header, folder: Path
) -> list[dict[str, Any]]:
    """Join the encoded files of one source, in order, into `folder/part-0-NNNNN.npy` …

    Args:
        encoded: At least one document in all.
        max_tokens: Per file; a longer document has a file of its own.
        header: What the headers share; the counts are filled in.
        folder: Of the source.

    Returns:
        The fields of a `Shard` for each file.
    """
    shards: list[Shard] = []
    numbers = shard_numbers((n for file in encoded for n in file.lengths), max_tokens)
    documents = zip(numbers, _documents(encoded, np.dtype(header.dtype).itemsize), strict=True)
    for number, group in itertools.groupby(documents, key=lambda pair: pair[0]):
        path = folder / f"part-0-{number:05d}.npy"
        rows: list[Row] = []
        with atomic_path(path) as beside, beside.open("wb") as out:
            start = 0
            for _, (file, place, content) in group:
                out.write(content)
                end = start + file.lengths[place]
                rows.append(Row(start, end, file.ids[place], file.src, file.lines[place]))
                start = end
        write_rows(rows_path(path), rows)
        shard = Shard(name=path.name, tokens=rows[-1].end, documents=len(rows))
        counted = {"tokens": shard.tokens, "documents": shard.documents}
        write_json(header_path(path), {**header.to_dict(), **counted})
        shards.append(shard)
    return [asdict(shard) for shard in shards]


def shard_numbers(lengths: Iterable[int], max_tokens: int) -> Iterator[int]:
    """Yield the number of each document's file: in order, a new one where the next does not fit."""
    number = filled = 0
    for length in lengths:
        if filled and filled + length > max_tokens:
            number, filled = number + 1, 0
        filled += length
        yield number


def _documents(
    encoded: Sequence[EncodedFile], itemsize: int
) -> Iterator[tuple[EncodedFile, int, bytes]]:
    """Yield each document as its encoded file, its place in that file, and the bytes of its ids."""
    for file in encoded:
        with file.path.open("rb") as raw:
            for place, length in enumerate(file.lengths):
                content = raw.read(length * itemsize)
                if len(content) < length * itemsize:
                    raise EOFError(f"{file.path}: ends within document {file.ids[place]!r}")
                yield file, place, content


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write `start,end,id,src,loc` rows, without a heading, as dolma does."""
    with packed(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows(rows)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows beside a token file, ours or dolma's."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        for start, end, document, src, loc in csv.reader(text):
            yield Row(start=int(start), end=int(end), id=document, src=src, loc=int(loc))
