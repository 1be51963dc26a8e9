"""All that is known of many documents at once against one look-up each."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.data import document_index
from olmo_core.data.document_index import DocumentSpan, IndexedDocument
from olmo_core.errors import InputError
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from tests.olmo_core.documents import Row, write_index

A, B = "tokens/a/part-0-00000.npy", "tokens/b/part-0-00000.npy"


def of_one(index: BatchedDocumentIndex, span: DocumentSpan) -> IndexedDocument:
    """Look one document up by its id alone, as the index itself does."""
    [known] = (
        row for row in index.of_id(span.id) if (row.file, row.start) == (span.file, span.start)
    )
    return known


def divide(folder: Path, parts: int, group: int) -> None:
    """Write each kind of digest in as many files, as the asset does of a large corpus."""
    for kind in ("ids", "urls", "texts", "dropped"):
        table = pq.read_table(folder / kind / "part-00000.parquet")
        of = document_index.partition_of(table["key"].to_numpy(), parts)
        for number in range(parts):
            path = folder / kind / f"part-{number:05d}.parquet"
            rows = table.filter(pa.array(of == number))
            document_index.write_sorted(path, rows, by="key", row_group=group)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("group", [1, 7, 4096])
def test_each_document_is_known_as_by_a_look_up_of_its_own(
    group: int, parts: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    for file in (A, B):
        end = 0
        for number, length in enumerate(rng.integers(1, 40, 150).tolist()):
            # Of every fifth place the id stands at others too, once at the same token of a file.
            name = "again" if number % 5 == 0 else f"{file}:{number}"
            rows.append((file, end, end + length, name, "s.gz", number + 1))
            end += length
    write_index(tmp_path, rows, group)
    divide(tmp_path, parts, group)
    index = BatchedDocumentIndex(tmp_path)
    [all_of_a, all_of_b] = index.between_each([(A, 0, 1 << 40), (B, 0, 1 << 40)])
    spans = all_of_a + all_of_b
    asked = [spans[number] for number in rng.integers(0, len(spans), 500).tolist()]
    assert index.known(asked) == [of_one(index, span) for span in asked]
    assert index.known(spans[:1]) == [of_one(index, spans[0])]
    assert index.known([]) == []


def test_more_row_groups_than_are_in_memory_at_once(tmp_path: Path) -> None:
    rows: list[Row] = [(A, at, at + 1, f"{at}", "s.gz", at + 1) for at in range(300)]
    write_index(tmp_path, rows, group=2)
    index = BatchedDocumentIndex(tmp_path)
    [spans] = index.between_each([(A, 0, 300)])
    assert index.known(spans) == [of_one(index, span) for span in spans]


def test_a_document_of_which_nothing_is_known_is_named(tmp_path: Path) -> None:
    write_index(tmp_path, [(A, 0, 9, "a", "s.gz", 1), (A, 9, 12, "b", "s.gz", 2)], 7)
    index = BatchedDocumentIndex(tmp_path)
    [spans] = index.between_each([(A, 0, 12)])
    path = tmp_path / "ids" / "part-00000.parquet"
    table = pq.read_table(path)
    document_index.write_sorted(
        path, table.filter(pa.array([name != "b" for name in table["id"].to_pylist()])),
        by="key", row_group=7,
    )  # fmt: skip
    said = re.escape("ids: nothing of document 'b', which has tokens [9, 12) of " + A)
    with pytest.raises(InputError, match=said):
        index.known(spans)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    write_index(tmp_path, [(A, 0, 9, "a", "s.gz", 1)], 7)
    index = BatchedDocumentIndex(tmp_path)
    [spans] = index.between_each([(A, 0, 9)])
    path = tmp_path / "ids" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"part-00000\.parquet: not part of a documents index"):
        index.known(spans)
