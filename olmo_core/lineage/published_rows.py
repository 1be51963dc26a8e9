"""The documents of published token files, from the rows beside them (`.csv.gz`), read as a stream.

A row is `start,end,id,src,loc`: tokens [start, end) of the file are document `id`, line `loc` of
`src`. Rows follow the tokens, so that whoever wants the first windows of a file reads no further.
"""

import importlib
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core import environment
from olmo_core.corpus.tokens.published import rows_beside
from olmo_core.data.document_index import DocumentSpan
from olmo_core.errors import InputError
from olmo_core.remote.cache import fetch
from olmo_core.remote.storage import Missing, is_remote

_BLOCK_BYTES = 1 << 24  # of rows, at once


class PublishedRows:
    """The rows of one token file.

    Args:
        file: How its spans are named.
        place: Where it lies; rows beside a URL are fetched once, whole.
        cache: Where to; None: `OLMO_CACHE`, then `~/.cache/olmo`.

    Raises:
        Missing: it was published without rows.
    """

    def __init__(self, file: str, place: str, cache: Path | None = None) -> None:
        self._file = file
        beside = rows_beside(place)
        if is_remote(beside):
            self.path = fetch(beside, environment.cache(cache))
        elif not Path(beside).is_file():
            raise Missing(f"{beside}: no such file")
        else:
            self.path = Path(beside)

    def between(self, ranges: Sequence[tuple[int, int]]) -> list[list[DocumentSpan]]:
        """Return the documents that have any token in each of some ranges, in order.

        Raises:
            InputError: the rows cannot be read, or do not cover a range.
        """
        found: list[list[DocumentSpan]] = [[] for _ in ranges]
        end = max((stop for _, stop in ranges), default=0)
        with closing(self._blocks()) as blocks:
            for number, batch in blocks:
                starts, ends = (batch.column(name).to_numpy() for name in ("start", "end"))
                for spans, (start, stop) in zip(found, ranges, strict=True):
                    for row in np.flatnonzero((starts < stop) & (ends > start)).tolist():
                        spans.append(self._span(batch, row, number + row))
                if int(ends[-1]) >= end:
                    break
        for spans, (start, stop) in zip(found, ranges, strict=True):
            covered = sum(min(stop, s.end) - max(start, s.start) for s in spans)
            if covered != stop - start:
                raise InputError(
                    f"{self.path}: of the tokens {start} to {stop} its rows cover {covered}: rows "
                    "of another file?"
                )
        return found

    def of_id(self, name: str) -> list[DocumentSpan]:
        """Return the documents of an id; all rows are read.

        Raises:
            InputError: the rows cannot be read.
        """
        compute: Any = importlib.import_module("pyarrow.compute")
        # One without an id has that of its file and row, see `_span`.
        nameless = name.startswith(f"{self._file}:")
        found: list[DocumentSpan] = []
        for number, batch in self._blocks():
            wanted = "" if nameless else name
            same = compute.equal(batch.column("id"), wanted).to_numpy(zero_copy_only=False)
            spans = [self._span(batch, row, number + row) for row in np.flatnonzero(same).tolist()]
            found += [span for span in spans if span.id == name]
        return found

    def _span(self, batch: Any, row: int, number: int) -> DocumentSpan:
        start, end, name, src, loc = (column[row].as_py() for column in batch.columns)
        # Published rows may have no id: that of their file and row stands for it.
        name = name or f"{self._file}:{number + 1}"
        return DocumentSpan(file=self._file, start=start, end=end, id=name, src=src, loc=loc)

    def _blocks(self) -> Generator[tuple[int, Any]]:
        """Yield the rows block by block, each with the number of rows before it."""
        from olmo_core.data.document_index import PLACE_SCHEMA

        arrow: Any = importlib.import_module("pyarrow")
        csv: Any = importlib.import_module("pyarrow.csv")
        types = {field.name: field.type for field in PLACE_SCHEMA}
        try:
            with csv.open_csv(
                # By its name alone it would not be taken for gzip: a URL's query stands at the end.
                arrow.input_stream(str(self.path), compression="gzip"),
                read_options=csv.ReadOptions(column_names=list(types), block_size=_BLOCK_BYTES),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=types),
            ) as batches:
                number = 0
                for batch in batches:
                    if len(batch):
                        yield number, batch
                        number += len(batch)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: {error}; expected rows start,end,id,src,loc") from None
