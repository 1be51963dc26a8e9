"""Where the documents of a token file end: as its rows say, or after each EOS."""

import contextlib
import csv
import importlib
import io
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.rows import packed
from olmo_core.data.format import TokenFile, read_tokens
from olmo_core.errors import InputError

_SPOTS = 64  # ends of each block of rows whose tokens are looked at
_COLUMNS = {"start": "int64", "end": "int64", "id": "string", "src": "string", "loc": "int64"}
_BLOCK_BYTES = 1 << 24  # of rows, at once


class DocumentEnds:
    """Writes a row for each document of a token file whose ends are found one after the other."""

    def __init__(self, rows: Any, name: str, origin: str) -> None:
        self.documents = 0
        self._end = 0
        self._name = name
        self._origin = origin
        self._rows = rows

    def add(self, ends: np.ndarray) -> None:
        """Write the documents that end at these places, in order."""
        starts = [self._end, *ends[:-1].tolist()]
        for start, end in zip(starts, ends.tolist(), strict=False):
            self.documents += 1
            name = f"{self._name}:{self.documents}"
            self._rows.writerow((start, end, name, self._origin, self.documents))
            self._end = end

    def close(self, tokens: int) -> None:
        """Write what is left at the end of the file, which counts as a document, as in OLMo."""
        if self._end < tokens:
            self.add(np.array([tokens]))


@contextlib.contextmanager
def row_writer(path: Path) -> Generator[Any]:
    """Yield a CSV writer of rows start, end, id, src, loc; they are compressed into `path`."""
    with packed(path) as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
        # No heading, as dolma writes them; a line break of either kind in an id is quoted.
        yield csv.writer(text, lineterminator="\r\n")


@contextlib.contextmanager
def written_rows(path: Path, name: str, origin: str) -> Generator[DocumentEnds]:
    """Yield what writes `path`, rows as dolma has them.

    Args:
        path: The `.csv.gz`.
        name: What ids begin with; a number from 1 follows.
        origin: Where the token file is from: `src` of each row.
    """
    with row_writer(path) as rows:
        yield DocumentEnds(rows, name, origin)


def check_rows(rows: Path, file: TokenFile, eos_token_id: int) -> int:
    """Return the number of documents by the rows of a token file, which must be of it.

    Raises:
        InputError: they cannot be read, leave a gap, do not cover the file, or end documents where
            there is no EOS.
    """
    documents, end, looked, others = 0, 0, 0, 0
    for starts, ends in _blocks(rows):
        require_joined(rows, starts, ends, before=documents, end=end)
        documents, end = documents + len(ends), int(ends[-1])
        if end > file.tokens:
            break
        spots = np.unique(np.linspace(0, len(ends) - 1, _SPOTS).astype(int))
        last = [int(read_tokens(file, end - 1, end)[0]) for end in ends[spots].tolist()]
        looked += len(last)
        others += sum(token != eos_token_id for token in last)
    if end != file.tokens:
        raise InputError(
            f"{rows}: its rows end at token {end}; the token file has {file.tokens} tokens"
        )
    if 2 * others > looked:
        raise InputError(
            f"{rows}: {others} of {looked} documents do not end in token {eos_token_id}, the "
            "eos_token of the recipe's tokenizer: rows of another file, or ids of another tokenizer"
        )
    return documents


def require_joined(
    rows: Path, starts: np.ndarray, ends: np.ndarray, *, before: int = 0, end: int = 0
) -> None:
    """Refuse rows of which one does not begin where the one before ends, or is empty.

    Args:
        rows: Their file.
        starts: Of each, (rows,).
        ends: Of each, (rows,).
        before: The number of rows that precede them in the file.
        end: Where the last of those ends.

    Raises:
        InputError: names the row.
    """
    expected = np.append(end, ends[:-1])
    wrong = np.flatnonzero((starts != expected) | (ends <= starts))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"{rows}:{before + row + 1}: tokens [{starts[row]}, {ends[row]}), expected to start at "
            f"{expected[row]}"
        )


def _blocks(rows: Path) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Yield the starts and ends of the rows, block by block.

    Raises:
        InputError: they are no rows.
    """
    arrow: Any = importlib.import_module("pyarrow")
    arrow_csv: Any = importlib.import_module("pyarrow.csv")
    try:
        with arrow_csv.open_csv(
            # By its name alone it would not be taken for gzip: a URL's query stands at the end.
            arrow.input_stream(str(rows), compression="gzip"),
            read_options=arrow_csv.ReadOptions(
                column_names=list(_COLUMNS), block_size=_BLOCK_BYTES
            ),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=_COLUMNS),
        ) as batches:
            for batch in batches:
                starts, ends = (batch.column(name).to_numpy() for name in ("start", "end"))
                if len(ends):
                    yield starts, ends
    except (OSError, ValueError) as error:
        raise InputError(f"{rows}: {error}; expected rows start,end,id,src,loc") from None
