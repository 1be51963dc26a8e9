"""All that an index knows of many documents at once, given where their tokens lie."""

import functools
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.document_index import IDS, DocumentSpan, IndexedDocument, key_of, partition_of
from olmo_core.errors import InputError

parquet: Any = importlib.import_module("pyarrow.parquet")  # it has no types

_FILES = 64  # that stay open
_AT_ONCE = 16  # row groups in memory: some 10 MB
_WHICH = ("file", "start")  # of one document alone, where an id is of several
_KNOWN = ("source", "url", "characters", "text_bytes", "sha1")  # beyond the place

_SPAN = tuple(field.name for field in fields(DocumentSpan))


class KnownDocuments:
    """Read what is known of documents, by the digests of their ids.

    Args:
        folder: The index, whose parts are there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = sorted((folder / IDS).glob("part-*.parquet"))
        self._open = functools.lru_cache(maxsize=_FILES)(_Part)

    def of(self, spans: Sequence[DocumentSpan]) -> list[IndexedDocument]:
        """Return all that is known of each document.

        Each part of the index that any document needs is read one time.

        Raises:
            InputError: a part of the index cannot be read, or knows nothing of a document.
        """
        keys = np.array([key_of(span.id) for span in spans], dtype=np.uint64)
        parts = partition_of(keys, len(self._paths))
        wanted = {(span.file, span.start) for span in spans}
        known: dict[tuple[str, int], Mapping[str, Any]] = {}
        for number, path in enumerate(self._paths):
            of_part = np.unique(keys[parts == number])
            for row in self._open(path).rows(of_part) if len(of_part) else ():
                place = row["file"], row["start"]
                if place in wanted:
                    known[place] = row
        return [self._document(span, known.get((span.file, span.start))) for span in spans]

    def _document(self, span: DocumentSpan, row: Mapping[str, Any] | None) -> IndexedDocument:
        if row is None:
            raise InputError(
                f"{self._folder / IDS}: nothing of document {span.id!r}, which has tokens "
                f"[{span.start:,}, {span.end:,}) of {span.file}: the index is damaged"
            )
        place: dict[str, Any] = {name: getattr(span, name) for name in _SPAN}
        return IndexedDocument(**place, **{name: row[name] for name in _KNOWN})


class _Part:
    """A file of documents, sorted by the digests of their ids."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = parquet.ParquetFile(path, read_dictionary=["file", "source"])
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not part of a documents index: {error}") from None
        metadata: Any = self._file.metadata
        column: int = self._file.schema_arrow.get_field_index("key")
        bounds = [
            group.column(column).statistics
            for group in map(metadata.row_group, range(metadata.num_row_groups))
            if group.num_rows  # of an empty file
        ]
        # Of each row group: its first and its last digest.
        self._first = np.array([bound.min for bound in bounds], dtype=np.uint64)
        self._last = np.array([bound.max for bound in bounds], dtype=np.uint64)

    def rows(self, keys: np.ndarray) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of these digests, which are distinct and ascending."""
        first = np.searchsorted(self._last, keys, "left")
        last = np.searchsorted(self._first, keys, "right")
        needed = sorted(
            {n for a, b in zip(first.tolist(), last.tolist(), strict=True) for n in range(a, b)}
        )
        for at in range(0, len(needed), _AT_ONCE):
            groups = needed[at : at + _AT_ONCE]
            table: Any = self._file.read_row_groups(groups, columns=["key", *_WHICH, *_KNOWN])
            chosen = np.flatnonzero(np.isin(table["key"].to_numpy(), keys))
            yield from table.take(chosen).to_pylist()
