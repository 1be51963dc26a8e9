"""Dolma documents on disk: their fields, their files and their attributes.

The format is the dolma toolkit's: one JSON object per line, `{id, text, source, added, created,
metadata}`, under `documents/<source>/*.jsonl.gz`; attributes mirror the same file names under
`attributes/<experiment>/<source>/` with `{id, attributes}`.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

from olmo_core.corpus.rows import (
    check_row,
    decoder,
    parse_row,
    read_lines,
    read_rows,
    write_rows,
)
from olmo_core.errors import InputError

# Installed files carry no date of their own that is the same everywhere; dolma wants the key.
UNDATED = "1970-01-01T00:00:00.000Z"
ELSEWHERE = "elsewhere"  # folder of the attributes that a user has brought along
EXCLUDED_FOLDER = "excluded"  # of a run of `raw`, beside `documents`
DROPPED_FOLDER = "dropped"  # of a run of `filtered`, beside `documents`: a row for each that goes
REQUIRED_KEYS = ("id", "text", "source")
LEAST_DIGITS = 5  # of the number in the name of a file


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text of the corpus; `id` is unique in the corpus and starts with the source's name."""

    id: str
    text: str
    source: str
    added: str = UNDATED
    created: str = UNDATED
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def text_bytes(self) -> int:
        """Return the size of the text in UTF-8."""
        return utf8_bytes(self.text)

    def sample(self, *notes: str, characters: int = 400) -> str:
        """Return the id, notes and the beginning of the text, a line each, as a sample to show."""
        whole = len(self.text) <= characters
        text = self.text if whole else self.text[:characters].rstrip() + " …"
        return "\n".join([self.id, *notes, text])


def utf8_bytes(text: str) -> int:
    """Return the size of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def text_facts(text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an index tells of a text: URL, characters, bytes, and SHA-1 in hexadecimal."""
    encoded = text.encode()
    url = metadata.get("url")
    return {
        "url": url if isinstance(url, str) else None,
        "characters": len(text),
        "text_bytes": len(encoded),
        "sha1": hashlib.sha1(encoded, usedforsecurity=False).hexdigest(),
    }


def count_words(text: str) -> int:
    """Return the number of words of a text: what stands between blanks."""
    return len(text.split())


FIELDS = tuple(each.name for each in fields(Document))


def shards(folder: Path) -> list[Path]:
    """Return the document or attribute files below a folder (of one source, or all), in order.

    Raises:
        InputError: there is none.
    """
    found = sorted(folder.rglob("*.jsonl.gz"))
    if not found:
        raise InputError(f"{folder}: no *.jsonl.gz file; expected documents of at least one source")
    return found


def excluded_shards(raw: Path) -> list[Path]:
    """Return the files of the documents that `raw` has excluded, in order; there may be none."""
    return sorted((raw / EXCLUDED_FOLDER).rglob("*.jsonl.gz"))


def source_names(documents: Path) -> list[str]:
    """Return the names of the sources under a `documents/` folder, sorted."""
    return sorted({shard.relative_to(documents).parts[0] for shard in shards(documents)})


def read_folder(folder: Path) -> Iterator[Document]:
    """Yield the documents of all files below a folder (one source's, or all), in a fixed order."""
    for path in shards(folder):
        yield from read_documents(path)


def read_documents(path: Path) -> Generator[Document]:
    """Yield the document of each line of one file, checking every line.

    Raises:
        InputError: anything that is not a whole, valid document file.
    """
    decode = decoder(Document)
    for line_number, line in read_lines(path):
        document = decode(line)
        if document is None or document.text.isspace() or not document.text:
            document = _checked(line, f"{path}:{line_number}")
        yield document


def _checked(line: bytes, where: str) -> Document:
    row = parse_row(line, where)
    check_row(row, where, REQUIRED_KEYS)
    return Document(
        id=row["id"],
        text=row["text"],
        source=row["source"],
        added=row.get("added", UNDATED),
        created=row.get("created", UNDATED),
        metadata=row.get("metadata") or {},
    )


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


def read_texts(path: Path) -> Generator[str]:
    """Yield the text of each line of one file; of the rest only that it is JSON is checked.

    Raises:
        InputError: a damaged file, or a line without a text.
    """
    decode = decoder(_Text)
    for line_number, line in read_lines(path):
        found = decode(line)
        yield found.text if found else _checked(line, f"{path}:{line_number}").text


def read_attributes(path: Path) -> Generator[tuple[str, dict[str, Any]]]:
    """Yield `(document id, attributes)` of each line of one attribute file.

    Raises:
        InputError: a damaged file, or a line without `id` and a mapping `attributes`.
    """
    for line_number, row in enumerate(read_rows(path), start=1):
        attributes = row.get("attributes")
        if not isinstance(row.get("id"), str) or not isinstance(attributes, dict):
            raise InputError(
                f"{path}:{line_number}: found keys {sorted(row)}; expected a string 'id' and a "
                "mapping 'attributes'"
            )
        yield row["id"], attributes  # pyright: ignore[reportUnknownVariableType]


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write one document file."""
    write_rows(path, map(document_row, documents))


def document_row(document: Document) -> dict[str, Any]:
    """Return a document as the object of its line."""
    return {name: getattr(document, name) for name in FIELDS}


def numbered(count: int) -> Iterator[str]:
    """Yield the numbers from 0 in digits, `LEAST_DIGITS` or as many as the last needs.

    So names that end in them sort by number, however many there are.
    """
    digits = max(LEAST_DIGITS, len(str(count - 1)))
    return (f"{number:0{digits}d}" for number in range(count))


def write_shards(folder: Path, documents: Iterable[Document], *, shard_bytes: int) -> int:
    """Write documents as `part-00000.jsonl.gz` …, a new file after every `shard_bytes` of text.

    Returns:
        The number of files.
    """
    left = iter(documents)
    count = 0
    for count, first in enumerate(left, start=1):
        shard = _up_to(shard_bytes, chain([first], left))
        write_documents(folder / f"part-{count - 1:05d}.jsonl.gz", shard)
    return count


def _up_to(shard_bytes: int, documents: Iterable[Document]) -> Iterator[Document]:
    filled = 0
    for document in documents:
        yield document
        filled += document.text_bytes
        if filled >= shard_bytes:
            return


def totals(table: Sequence[Mapping[str, Any]], *columns: str) -> dict[str, int]:
    """Return the sum of each of these columns of a report's table."""
    return {column: sum(row[column] for row in table) for column in columns}
