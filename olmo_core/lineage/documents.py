"""Which documents one index has and another has not: by id, and of equal ids by text.

Both indexes are cut by the leading bits of the digests of ids, so that a part of one is compared
with the same part of the other: memory is that of two parts, about a million documents each,
whatever their number. Ids of equal digests (64 bits) are taken for equal.
"""

# pyright: basic
# pyarrow's types are partial.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from olmo_core.data.document_index import IDS, partition_of
from olmo_core.errors import InputError

MOST_IDS = 5  # of each kind that are named
_compute: Any = compute  # whose functions are made when it is imported
_COLUMNS = ("key", "id", "source", "start", "end", "sha1")


@dataclass(kw_only=True)
class DocumentCount:
    """Documents of one source, and their tokens."""

    documents: int = 0
    tokens: int = 0


@dataclass(kw_only=True)
class DocumentSet:
    """Documents by source, and the ids of some: the first by digest, so an arbitrary few."""

    sources: dict[str, DocumentCount] = field(default_factory=dict[str, DocumentCount])
    ids: list[str] = field(default_factory=list[str])

    @property
    def documents(self) -> int:
        """Return how many there are."""
        return sum(each.documents for each in self.sources.values())

    def count_of(self, source: str) -> tuple[int, int]:
        """Return the documents and tokens of a source."""
        found = self.sources.get(source, DocumentCount())
        return found.documents, found.tokens

    def add(self, rows: Any) -> None:
        """Count the rows of a table, which are sorted by key; a repeated id is one document."""
        if not rows.num_rows:
            return
        tokens = _compute.subtract(rows["end"], rows["start"])
        columns = {"source": rows["source"], "key": rows["key"], "tokens": tokens}
        grouped = pa.table(columns).group_by("source")
        counted = grouped.aggregate([("key", "count_distinct"), ("tokens", "sum")])
        for row in counted.to_pylist():
            known = self.sources.setdefault(row["source"], DocumentCount())
            known.documents += row["key_count_distinct"]
            known.tokens += row["tokens_sum"]
        for id in rows["id"][: 4 * MOST_IDS].to_pylist():
            if len(self.ids) < MOST_IDS and id not in self.ids:
                self.ids.append(id)


@dataclass(frozen=True, kw_only=True)
class ComparedDocuments:
    """What two indexes have of documents that the other has not, and those whose texts differ."""

    first: DocumentSet  # that the first alone has
    second: DocumentSet  # that the second alone has
    changed: DocumentSet  # ids that both have, with another text in the second; as in the second

    @property
    def sources(self) -> Sequence[str]:
        """Return the sources that differ, in order of their names."""
        kinds = (self.first, self.second, self.changed)
        return sorted({source for kind in kinds for source in kind.sources})


def compare_documents(before: Path, after: Path) -> ComparedDocuments:
    """Return in which documents two indexes differ.

    Args:
        before: Run folder of an asset `documents`.
        after: The same.

    Raises:
        InputError: a folder is no such index.
    """
    found = ComparedDocuments(first=DocumentSet(), second=DocumentSet(), changed=DocumentSet())
    parts = max(len(_files(before)), len(_files(after)))
    for old, new in zip(_slices(before, parts), _slices(after, parts), strict=True):
        keys, other = old["key"].to_numpy(), new["key"].to_numpy()
        found.first.add(old.filter(pa.array(~np.isin(keys, other))))
        in_both = np.isin(other, keys)
        found.second.add(new.filter(pa.array(~in_both)))
        found.changed.add(new.filter(pa.array(in_both & _other_text(keys, old, other, new))))
    return found


def _other_text(
    keys: np.ndarray[Any, Any], old: Any, other: np.ndarray[Any, Any], new: Any
) -> np.ndarray[Any, Any]:
    """Return of each new row whether the first old row of its key has another text.

    Of published token files no text is known, and none is said to differ.
    """
    if not len(keys):
        return np.zeros(len(other), bool)
    at = np.minimum(np.searchsorted(keys, other), len(keys) - 1)
    texts = old["sha1"].take(pa.array(at))
    differ = _compute.fill_null(_compute.not_equal(texts, new["sha1"]), False)
    return np.asarray(differ, bool)


def _files(index: Path) -> list[Path]:
    files = sorted((index / IDS).glob("part-*.parquet"))
    if not files:
        raise InputError(f"{index}: not a documents index: nothing in {IDS}/")
    return files


def _slices(index: Path, parts: int) -> Iterator[Any]:
    """Yield the rows of an index by so many equal parts of all digests, as its own parts or less.

    Both numbers are powers of two.
    """
    files = _files(index)
    slices = parts // len(files)  # of each of its own parts
    for number, path in enumerate(files):
        rows = pq.read_table(path, columns=[*_COLUMNS]).combine_chunks()
        whose = partition_of(rows["key"].to_numpy(), parts)
        for part in range(number * slices, (number + 1) * slices):
            yield rows if slices == 1 else rows.filter(pa.array(whose == part))
