"""The documents of many ranges of tokens at once, and all that is known of them."""

import functools
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.document_index import (
    PLACES,
    DocumentIndex,
    DocumentSpan,
    IndexedDocument,
    places_path,
)
from olmo_core.errors import InputError
from olmo_core.lineage.known_documents import KnownDocuments
from olmo_core.lineage.place_blocks import MARKER, PlaceBlocks

parquet: Any = importlib.import_module("pyarrow.parquet")  # it has no types

_FILES = 64  # that stay open
_BOUNDS = ("start", "end")
_COLUMNS = (*_BOUNDS, "id", "src", "loc")


class BatchedDocumentIndex(DocumentIndex):
    """A documents index that answers for many ranges of tokens, or many documents, at once.

    Args:
        folder: The index.
        blocks: Its finished `place_blocks`, which are read in place of row groups; None: none are.

    Raises:
        InputError: it is none.
    """

    def __init__(self, folder: Path, blocks: Path | None = None) -> None:
        super().__init__(folder)
        self._folder, self._blocks = folder, blocks
        self._files = functools.lru_cache(maxsize=_FILES)(self._open_file)
        # Two columns are read faster than blocks of all.
        self._bounds = functools.lru_cache(maxsize=_FILES)(
            functools.partial(_Places, folder / PLACES)
        )
        self._known = KnownDocuments(folder)

    def between_each(self, ranges: Sequence[tuple[str, int, int]]) -> list[list[DocumentSpan]]:
        """Return, per range, the documents that hold any of its tokens, in order.

        Each part of the index that any range needs is read one time.

        Args:
            ranges: File, first token and one after the last.

        Raises:
            InputError: a part of the index cannot be read.
        """
        found: list[list[DocumentSpan]] = [[] for _ in ranges]
        by_file: dict[str, list[int]] = {}
        for number, (file, *_) in enumerate(ranges):
            by_file.setdefault(file, []).append(number)
        for file, numbers in by_file.items():
            if not places_path(self._folder / PLACES, file).is_file():
                continue
            bounds = np.array([ranges[number][1:] for number in numbers], dtype=np.int64)
            spans = self._files(file).between(bounds)
            for number, documents in zip(numbers, spans, strict=True):
                found[number] = documents
        return found

    def known(self, spans: Sequence[DocumentSpan]) -> list[IndexedDocument]:
        """Return all that the index knows of each of these documents, which it has given.

        Raises:
            InputError: a part of the index cannot be read, or knows nothing of a document.
        """
        return self._known.of(spans)

    def bounds(self, file: str, tokens: np.ndarray) -> np.ndarray:
        """Return the first token of each token's document and one after its last, int64 (n, 2).

        Of each part of the index no more is read than where documents begin and end.

        Args:
            file: The token file.
            tokens: Of it; where no document is, both are -1.

        Raises:
            InputError: a part of the index cannot be read.
        """
        if not places_path(self._folder / PLACES, file).is_file():
            return np.full((len(tokens), 2), -1, dtype=np.int64)
        return self._bounds(file).bounds(tokens)

    def _open_file(self, file: str) -> "_Places | PlaceBlocks":
        # Blocks are a cache, which may be deleted meanwhile.
        if self._blocks is not None and (self._blocks / MARKER).is_file():
            return PlaceBlocks(self._blocks, file)
        return _Places(self._folder / PLACES, file)


class _Places:
    """The documents of one token file, by their first tokens."""

    def __init__(self, places: Path, file: str) -> None:
        path = places_path(places, file)
        self._name = file
        try:
            self._file: Any = parquet.ParquetFile(path, read_dictionary=["src"])
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not part of a documents index: {error}") from None
        metadata: Any = self._file.metadata
        groups: list[Any] = [
            metadata.row_group(number) for number in range(metadata.num_row_groups)
        ]
        column: int = self._file.schema_arrow.get_field_index("start")
        # Of each row group the first token of its first document.
        self._first = np.array(
            [group.column(column).statistics.min for group in groups if group.num_rows],
            dtype=np.int64,
        )

    def between(self, bounds: np.ndarray) -> Iterator[list[DocumentSpan]]:
        """Yield the documents that hold tokens of each range, int64 (n, 2)."""
        if not len(self._first):
            yield from ([] for _ in bounds)
            return
        first = np.maximum(np.searchsorted(self._first, bounds[:, 0], "right") - 1, 0)
        last = np.searchsorted(self._first, bounds[:, 1], "left")
        needed = sorted({n for a, b in zip(first, last, strict=True) for n in range(a, b)})
        columns = self._read(needed, _COLUMNS)
        starts, ends = columns["start"], columns["end"]
        low = np.searchsorted(ends, bounds[:, 0], "right")
        high = np.searchsorted(starts, bounds[:, 1], "left")
        for a, b in zip(low.tolist(), high.tolist(), strict=True):
            yield [
                DocumentSpan(
                    file=self._name,
                    start=int(starts[row]),
                    end=int(ends[row]),
                    id=columns["id"][row].as_py(),
                    src=columns["src"][row].as_py(),
                    loc=columns["loc"][row].as_py(),
                )
                for row in range(a, b)
            ]

    def bounds(self, tokens: np.ndarray) -> np.ndarray:
        """Return the bounds of the document of each token, int64 (n, 2); -1: none holds it."""
        group = np.searchsorted(self._first, tokens, "right") - 1
        needed = np.unique(group[group >= 0]).tolist()
        found = np.full((len(tokens), 2), -1, dtype=np.int64)
        if needed:
            columns = self._read(needed, _BOUNDS)
            row = np.searchsorted(columns["start"], tokens, "right") - 1
            held = (row >= 0) & (tokens < columns["end"][row])
            found[held] = np.stack([columns[name][row[held]] for name in _BOUNDS], axis=1)
        return found

    def _read(self, groups: Sequence[int], names: Sequence[str]) -> Mapping[str, Any]:
        """Return columns of some row groups; those of tokens as arrays."""
        table: Any = self._file.read_row_groups(list(groups), columns=[*names])
        columns: dict[str, Any] = {name: table[name] for name in names}
        for name in _BOUNDS:
            columns[name] = columns[name].to_numpy()
        return columns
