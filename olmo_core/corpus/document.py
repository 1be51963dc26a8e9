"""Dolma documents on disk: their fields, their files and their attributes.

The format is the dolma toolkit's: one JSON object per line, `{id, text, source, added, created,
metadata}`, under `documents/<source>/*.jsonl.gz`; attributes mirror the same file names under
`attributes/<experiment>/<source>/` with `{id, attributes}`.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.corpus.rows import check_row, read_rows, write_rows
from olmo_core.errors import InputError

# Installed files carry no date of their own that is the same everywhere; dolma wants the key.
UNDATED = "1970-01-01T00:00:00.000Z"
REQUIRED_KEYS = ("id", "text", "source")


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
        """Size of the text in UTF-8."""
        return len(self.text.encode())


def shards(folder: Path) -> list[Path]:
    """The document or attribute files below a folder (one source's, or all), in a fixed order.

    Raises:
        InputError: there is none.
    """
    found = sorted(folder.rglob("*.jsonl.gz"))
    if not found:
        raise InputError(f"{folder}: no *.jsonl.gz file; expected documents of at least one source")
    return found


def source_names(documents: Path) -> list[str]:
    """Names of the sources under a `documents/` folder, sorted."""
    return sorted({shard.relative_to(documents).parts[0] for shard in shards(documents)})


def read_documents(path: Path) -> Generator[tuple[int, Document]]:
    """Yield `(line number, document)` of one file, checking every line.

    Raises:
        InputError: anything that is not a whole, valid document file.
    """
    for line_number, row in read_rows(path):
        check_row(row, f"{path}:{line_number}", REQUIRED_KEYS)
        yield (
            line_number,
            Document(
                id=row["id"],
                text=row["text"],
                source=row["source"],
                added=row.get("added", UNDATED),
                created=row.get("created", UNDATED),
                metadata=row.get("metadata") or {},
            ),
        )


def read_attributes(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield `(line number, document id, attributes)` of one attribute file.

    Raises:
        InputError: a damaged file, or a line without `id` and a mapping `attributes`.
    """
    for line_number, row in read_rows(path):
        attributes = row.get("attributes")
        if not isinstance(row.get("id"), str) or not isinstance(attributes, dict):
            raise InputError(
                f"{path}:{line_number}: found keys {sorted(row)}; expected a string 'id' and a "
                "mapping 'attributes'"
            )
        yield line_number, row["id"], attributes  # pyright: ignore[reportUnknownVariableType]


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write one document file; returns the number of documents."""
    return write_rows(path, (asdict(document) for document in documents))


def write_shards(folder: Path, documents: Iterable[Document], *, shard_bytes: int) -> int:
    """Write documents as `part-00000.jsonl.gz` …, a new file after every `shard_bytes` of text.

    Returns:
        The number of files.
    """
    shard: list[Document] = []
    filled = count = 0

    def close() -> None:
        nonlocal shard, filled, count
        write_documents(folder / f"part-{count:05d}.jsonl.gz", shard)
        shard, filled, count = [], 0, count + 1

    for document in documents:
        shard.append(document)
        filled += document.text_bytes
        if filled >= shard_bytes:
            close()
    if shard:
        close()
    return count


def clip(text: str, characters: int = 400) -> str:
    """The beginning of a text, as a sample to show."""
    return text if len(text) <= characters else text[:characters].rstrip() + " …"
