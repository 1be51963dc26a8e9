"""Write token files in dolma's layout: ids end to end, one row per document, and a header.

Documents keep their order and are never split; a file takes documents up to its limit of tokens.
"""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    lengths: list[int]  # tokens, EOS included
    text_bytes: int
    slow_reason: str  # why Hugging Face encoded it all; empty where tiktoken did


def write_source(
    encoded: Sequence[EncodedFile], max_tokens: int, header: Header, folder: Path
) -> None:
    """Join the encoded files of one source, in order, into `folder/part-0-NNNNN.npy` …

    Args:
        encoded: At least one document in all.
        max_tokens: Per file; a longer document has a file of its own.
        header: What the headers share; the counts are filled in.
        folder: Of the source.
    """
    numbers = shard_numbers((n for file in encoded for n in file.lengths), max_tokens)
    documents = zip(numbers, _documents(encoded, np.dtype(header.dtype).itemsize), strict=True)
    for number, group in itertools.groupby(documents, key=lambda pair: pair[0]):
        path = folder / f"part-0-{number:05d}.npy"
        rows: list[tuple[int | str, ...]] = []  # start, end, id, src, loc
        end = 0
        with atomic_path(path) as beside, beside.open("wb") as out:
            for _, (content, length, *place) in group:
                out.write(content)
                start, end = end, end + length
                rows.append((start, end, *place))
        # Without a heading, as dolma writes them.
        with packed(rows_path(path)) as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
            csv.writer(text, lineterminator="\n").writerows(rows)
        write_json(header_path(path), replace(header, tokens=end, documents=len(rows)).to_dict())


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
) -> Iterator[tuple[bytes, int, str, str, int]]:
    """Yield the bytes of each document's ids and their number; its id, its file and its line."""
    for file in encoded:
        with file.path.open("rb") as raw:
            for line, (name, length) in enumerate(zip(file.ids, file.lengths, strict=True), 1):
                content = raw.read(length * itemsize)
                if len(content) < length * itemsize:
                    raise EOFError(f"{file.path}: ends within document {name!r}")
                yield content, length, name, file.src, line
