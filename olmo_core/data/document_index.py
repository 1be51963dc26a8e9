"""The documents index: from a position in a token file, an id, a URL or a SHA-1 to the document.

    places/<token file>.parquet    the documents of one token file, in its order
    ids/part-NNNNN.parquet         everything known of a document, by the digest of its id
    dropped/part-NNNNN.parquet     the same of each document that is not trained on, and why
    urls/, texts/part-NNNNN.parquet    digests of URLs and texts, each with that of an id

Each of the last four is cut by the leading bits of its digest and sorted by it. A query reads a
row group or two, whatever the number of documents.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh3_64_intdigest

from olmo_core.errors import InputError

Array = np.ndarray[Any, Any]

PLACES, IDS, URLS, TEXTS, DROPPED = "places", "ids", "urls", "texts", "dropped"
ROW_GROUP = 1 << 12  # rows that a query reads at least
KEY_ROW_GROUP = 1 << 14  # of two numbers a row
REPEATED_NAMES = ("source", "file", "src", "asset", "reason")


@dataclass(frozen=True, kw_only=True)
class DocumentSpan:
    """Where a document's tokens lie: tokens [start, end) of `file` are the document `id`."""

    file: str  # token file, relative to the tokens run folder
    start: int  # first token of the document in the file
    end: int  # one after its EOS
    id: str
    src: str  # document file, relative to the filtered run folder
    loc: int  # 1-based line in it


@dataclass(frozen=True, kw_only=True)
class IndexedDocument(DocumentSpan):
    """One row of the index."""

    source: str
    url: str | None  # `url` of the document's metadata
    # of the text, in UTF-8; None of a document of a published token file
    characters: int | None
    text_bytes: int | None
    sha1: bytes | None


@dataclass(frozen=True, kw_only=True)
class DroppedDocument:
    """A document that is in no token file, and why."""

    id: str
    source: str
    asset: str  # that left it out: raw, held_out or filtered
    reason: str  # `excluded`, its role among the held-out documents, or the rule that dropped it
    # document file, relative to the run folder of `raw` or `held_out`, and 1-based line in it
    src: str
    loc: int
    url: str | None
    characters: int  # of the text
    text_bytes: int  # in UTF-8
    sha1: bytes


PLACE_SCHEMA: Any = pa.schema(
    {
        "start": pa.int64(),
        "end": pa.int64(),
        "id": pa.string(),
        "src": pa.string(),
        "loc": pa.int64(),
    }
)
TEXT_SCHEMA: Any = pa.schema(
    {
        "url": pa.string(),
        "characters": pa.int64(),
        "text_bytes": pa.int64(),
        "sha1": pa.binary(20),
    }
)
KEY: Any = pa.field("key", pa.uint64())
KEY_SCHEMA: Any = pa.schema([KEY, pa.field("id_key", pa.uint64())])
PLACED_SCHEMA: Any = pa.schema(
    [KEY, pa.field("source", pa.string()), pa.field("file", pa.string()), *PLACE_SCHEMA]
)
KNOWN_SCHEMA: Any = pa.schema([KEY, pa.field("id", pa.string()), *TEXT_SCHEMA])
ROW_SCHEMA: Any = pa.schema([*PLACED_SCHEMA, *TEXT_SCHEMA])
DROPPED_SCHEMA: Any = pa.schema(
    [
        KEY,
        *(pa.field(name, pa.string()) for name in ("id", "source", "asset", "reason", "src")),
        pa.field("loc", pa.int64()),
        *TEXT_SCHEMA,
    ]
)


Row = TypeVar("Row", IndexedDocument, DroppedDocument)


def key_of(name: str) -> int:
    """Return the digest by which an id or a URL is found."""
    return xxh3_64_intdigest(name.encode())


def key_of_sha1(sha1: bytes) -> int:
    """Return the digest by which a text is found: the first bytes of its SHA-1."""
    return int.from_bytes(sha1[:8], "big")


def partition_of(keys: Array, partitions: int) -> Array:
    """Return the partition of each key: its leading bits; `partitions` is a power of two."""
    bits = partitions.bit_length() - 1
    return (keys >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(keys), int)


def write_sorted(path: Path, table: Any, *, by: str, row_group: int) -> None:
    """Write a table that is sorted by the column `by`, whose bounds each row group states."""
    names = [name for name in table.schema.names if name in REPEATED_NAMES]
    # Names, where pyarrow's types know bools alone.
    columns: Any = {"use_dictionary": names, "write_statistics": [by]}
    pq.write_table(
        table, path, row_group_size=row_group, compression="zstd", store_schema=False, **columns
    )


class DocumentIndex:
    """Answer queries from the Parquet files in `folder`.

    Raises:
        InputError: it is not such an index.
    """

    def __init__(self, folder: Path) -> None:
        self._places = folder / PLACES
        if not self._places.is_dir():
            raise InputError(f"{folder}: not a documents index: no folder {PLACES}")
        self._ids, self._urls, self._texts, self._dropped = (
            _Partitions(folder / name) for name in (IDS, URLS, TEXTS, DROPPED)
        )
        self._open = functools.lru_cache(maxsize=64)(_Sorted)

    def between(self, file: str, start: int, stop: int) -> list[DocumentSpan]:
        """Return the documents that hold any of the tokens [start, stop) of a file, in order."""
        path = places_path(self._places, file)
        if not path.is_file():
            return []
        # The document before the first one that starts in the range reaches into it.
        table = self._open(path, "start").rows(start, stop)
        reach = (pc.field("start") < stop) & (pc.field("end") > start)
        return [DocumentSpan(file=file, **row) for row in table.filter(reach).to_pylist()]

    def at(self, file: str, position: int) -> DocumentSpan:
        """Return the document of the token at `position` of a token file; its EOS belongs to it.

        Raises:
            KeyError: no such file or position.
        """
        found = self.between(file, position, position + 1)
        if not found:
            raise KeyError(f"{file}: no document at token {position}")
        return found[0]

    def of_id(self, doc_id: str) -> list[IndexedDocument]:
        """Return where a document's tokens lie, and what is known of it.

        Raises:
            KeyError: no document of this id was tokenised.
        """
        rows = self._rows(self._ids, IndexedDocument, [key_of(doc_id)])
        found = [row for row in rows if row.id == doc_id]
        if not found:
            raise KeyError(f"no document {doc_id!r} in the index")
        return found

    def of_url(self, url: str) -> list[IndexedDocument]:
        """Return the documents of this URL, by id; none if there is none."""
        return self._of_url(self._ids, IndexedDocument, url)

    def of_sha1(self, sha1: bytes) -> list[IndexedDocument]:
        """Return the documents whose text has this SHA-1, by id; none if there is none."""
        return self._of_sha1(self._ids, IndexedDocument, sha1)

    def dropped_of_id(self, doc_id: str) -> list[DroppedDocument]:
        """Return why the document of this id is not trained on; nothing if none is left out."""
        found = self._rows(self._dropped, DroppedDocument, [key_of(doc_id)])
        return [row for row in found if row.id == doc_id]

    def dropped_of_url(self, url: str) -> list[DroppedDocument]:
        """Return the documents of this URL that are left out, by id."""
        return self._of_url(self._dropped, DroppedDocument, url)

    def dropped_of_sha1(self, sha1: bytes) -> list[DroppedDocument]:
        """Return the documents that are left out and whose text has this SHA-1, by id."""
        return self._of_sha1(self._dropped, DroppedDocument, sha1)

    def _of_url(self, partitions: "_Partitions", kind: type[Row], url: str) -> list[Row]:
        keys = self._urls.rows(key_of(url))["id_key"].to_pylist()
        return [found for found in self._rows(partitions, kind, keys) if found.url == url]

    def _of_sha1(self, partitions: "_Partitions", kind: type[Row], sha1: bytes) -> list[Row]:
        keys = self._texts.rows(key_of_sha1(sha1))["id_key"].to_pylist()
        return [found for found in self._rows(partitions, kind, keys) if found.sha1 == sha1]

    def _rows(self, partitions: "_Partitions", kind: type[Row], keys: Sequence[int]) -> list[Row]:
        """Return the rows of these digests of ids, as `kind`, by id."""
        rows = [
            kind(**{name: value for name, value in row.items() if name != "key"})
            for key in set(keys)
            for row in partitions.rows(key).to_pylist()
        ]
        return sorted(rows, key=lambda row: row.id)


def places_path(places: Path, file: str) -> Path:
    """Return the path of the places of a token file, which is named from the tokens run folder."""
    return places / f"{file}.parquet"


class _Sorted:
    """Read the needed row groups of a Parquet file that is sorted by a column."""

    def __init__(self, path: Path, by: str) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: not part of a documents index: {error}") from None
        column = self._file.schema_arrow.get_field_index(by)
        metadata = self._file.metadata
        bounds = [
            metadata.row_group(group).column(column).statistics
            for group in range(metadata.num_row_groups)
            if metadata.row_group(group).num_rows  # of an empty file
        ]
        # Of each row group: its first and its last value.
        self._first, self._last = (
            np.array([getattr(bound, end) for bound in bounds], dtype=np.uint64)
            for end in ("min", "max")
        )

    def rows(self, low: int, high: int) -> pa.Table:
        """Return the row groups that hold the values in [low, high] and the last row before."""
        low, high = (min(max(0, value), (1 << 64) - 1) for value in (low, high))
        start = max(0, int(np.searchsorted(self._first, np.uint64(low), "right")) - 1)
        while start > 0 and self._last[start - 1] >= low:
            start -= 1
        stop = int(np.searchsorted(self._first, np.uint64(high), "right"))
        return self._file.read_row_groups(list(range(start, max(start, stop))))


class _Partitions:
    """Files that share rows by the leading bits of their key."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.glob("part-*.parquet"))
        count = len(self._files)
        if count == 0 or count & (count - 1):
            raise InputError(f"{folder}: not part of a documents index: {count} files")
        self._open = functools.lru_cache(maxsize=64)(_Sorted)

    def rows(self, key: int) -> pa.Table:
        """Return the rows of a key."""
        number = int(partition_of(np.array([key], dtype=np.uint64), len(self._files))[0])
        table = self._open(self._files[number], "key").rows(key, key)
        return table.filter(pc.field("key") == pa.scalar(key, pa.uint64()))
