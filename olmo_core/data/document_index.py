"""The documents index: from a position in a token file to its document, and back.

Two Parquet files hold the same rows: `documents.parquet` sorted by (file, start) and `ids.parquet`
sorted by (id, file, start). A query reads one row group of one of them, so an index of billions of
documents answers from its footer and a few hundred kilobytes.
"""

import bisect
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from olmo_core.errors import InputError
from olmo_core.files import atomic_path

BY_PLACE = "documents.parquet"
BY_ID = "ids.parquet"
ROW_GROUP = 1 << 16
_FIRST = "olmo_core.first_rows"  # metadata: (sort keys) of each row group's first row


@dataclass(frozen=True, kw_only=True)
class DocumentSpan:
    """One row of the index: tokens [start, end) of `file` are the document `id`."""

    file: str  # token file, relative to the tokens run folder
    start: int  # first token of the document in the file
    end: int  # one after its EOS
    id: str
    src: str  # document file, relative to the filtered run folder
    loc: int  # 1-based line in it


_TYPES: dict[Any, pa.DataType] = {str: pa.string(), int: pa.int64()}
SCHEMA = pa.schema([(field.name, _TYPES[field.type]) for field in fields(DocumentSpan)])


class DocumentIndex:
    """Answer queries from the two Parquet files in `folder`.

    Raises:
        InputError: one of them is missing or was not written by `write_index`.
    """

    def __init__(self, folder: Path) -> None:
        self._by_place = _Sorted(folder / BY_PLACE)
        self._by_id = _Sorted(folder / BY_ID)

    def between(self, file: str, start: int, stop: int) -> list[DocumentSpan]:
        """Return the documents that hold any of the tokens [start, stop) of a file, in order."""
        # The document before the first one that starts in the range reaches into it.
        table = self._by_place.rows((file, start), (file, stop))
        reach = (pc.field("start") < stop) & (pc.field("end") > start)
        return _spans(table.filter((pc.field("file") == file) & reach))

    def at(self, file: str, position: int) -> DocumentSpan:
        """Return the document of the token at `position` of a token file; its EOS belongs to it.

        Raises:
            KeyError: no such file or position.
        """
        found = self.between(file, position, position + 1)
        if not found:
            raise KeyError(f"{file}: no document at token {position}")
        return found[0]

    def of_id(self, doc_id: str) -> list[DocumentSpan]:
        """Return where a document's tokens lie, by file and start.

        Raises:
            KeyError: no document of this id was tokenised.
        """
        table = self._by_id.rows((doc_id, ""), (doc_id, "\U0010ffff"))
        found = _spans(table.filter(pc.field("id") == doc_id))
        if not found:
            raise KeyError(f"no document {doc_id!r} in the index")
        return found


def write_index(folder: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write both files from one list per column of `SCHEMA`; rows may come in any order."""
    table = pa.table(dict(columns), schema=SCHEMA)
    for name, keys in {BY_PLACE: ("file", "start"), BY_ID: ("id", "file", "start")}.items():
        ordered = table.sort_by([(key, "ascending") for key in keys])
        # Parquet's own statistics hold the smallest of each column, not the first row.
        heads = ordered.take(list(range(0, len(ordered), ROW_GROUP))).to_pylist()
        first = json.dumps([[row[key] for key in keys[:2]] for row in heads])
        ordered = ordered.replace_schema_metadata({_FIRST: first})
        with atomic_path(folder / name) as beside:
            pq.write_table(ordered, beside, row_group_size=ROW_GROUP, compression="zstd")


class _Sorted:
    """Read the needed row groups of a Parquet file that is sorted by two keys."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: not a documents index: {error}") from None
        first = (self._file.schema_arrow.metadata or {}).get(_FIRST.encode())
        if self._file.schema_arrow.names != SCHEMA.names or first is None:
            raise InputError(f"{path}: not a documents index of this version")
        self._first = [tuple(keys) for keys in json.loads(first)]  # of each row group's first row
        self._group = functools.lru_cache(maxsize=8)(self._file.read_row_group)

    def rows(self, low: tuple[str, int | str], high: tuple[str, int | str]) -> pa.Table:
        """Return the row groups that hold the keys in [low, high] and the last row before them."""
        start = max(0, bisect.bisect_left(self._first, low) - 1)
        stop = bisect.bisect_right(self._first, high)
        groups = [self._group(group) for group in range(start, stop)]
        return pa.concat_tables(groups) if groups else SCHEMA.empty_table()


def _spans(table: pa.Table) -> list[DocumentSpan]:
    return [DocumentSpan(**row) for row in table.to_pylist()]
