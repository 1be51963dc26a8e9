"""Blocks of places against the index that they are of, and what is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.data import document_index
from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from olmo_core.lineage import place_blocks
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.place_blocks import build_blocks, require_blocks_of, write_blocks
from tests.olmo_core.documents import Row, write_index

A, B, EMPTY = (f"tokens/{name}/part-0-00000.npy" for name in ("a", "b", "empty"))
NAMES = ("ascii", "é\n\t", "漢字/" * 40, "")  # parts of ids


def made_index(folder: Path, group: int) -> dict[str, int]:
    """Write an index of two token files and one without documents; return the tokens of each."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    sizes: dict[str, int] = {EMPTY: 0}
    for file, documents in ((A, 700), (B, 129)):
        end = 1 << 40 if file == A else 0  # beyond 32 bits
        if end:
            rows.append((file, 0, end, "first", "s.gz", 1))
        for number, length in enumerate(rng.integers(1, 40, documents).tolist()):
            name = f"{file}:{number}{NAMES[number % len(NAMES)]}"
            rows.append((file, end, end + length, name, f"{number // 90}.gz", number + 1))
            end += length
        sizes[file] = end
    write_index(folder, rows, group)
    path = document_index.places_path(folder / "places", EMPTY)
    path.parent.mkdir(parents=True)
    table = pa.Table.from_pylist([], document_index.PLACE_SCHEMA)
    document_index.write_sorted(path, table, by="start", row_group=group)
    return sizes


def built(folder: Path) -> Path:
    """Build the blocks of the index in `folder`; return theirs."""
    out = folder / "blocks"
    build_blocks(folder, out, digest="d", processes=1, progress=lambda done, total: None)
    return out


@pytest.mark.parametrize("group", [7, 4096])
def test_blocks_give_what_the_index_gives(group: int, tmp_path: Path) -> None:
    sizes = made_index(tmp_path, group)
    index = DocumentIndex(tmp_path)
    blocks = BatchedDocumentIndex(tmp_path, built(tmp_path))
    rng = np.random.default_rng(3)
    ranges: list[tuple[str, int, int]] = [("tokens/none.npy", 0, 9), (EMPTY, 0, 9)]
    for file, size in sizes.items():
        ranges += [(file, 0, 1), (file, 0, size), (file, size - 1, size), (file, size, size + 5)]
        first = max(0, size - 14_000)
        for start in rng.integers(first, size + 1, 200).tolist():
            ranges.append((file, start, start + int(rng.integers(1, 400))))
        ranges += [(file, at, at + 1) for at in rng.integers(first, size + 1, 200).tolist()]
    assert blocks.between_each(ranges) == [index.between(*each) for each in ranges]
    [edges] = blocks.between_each([(A, 0, sizes[A])])
    by_block = [(A, each.start - 1, each.start + 1) for each in edges[1:]]
    assert blocks.between_each(by_block) == [index.between(*each) for each in by_block]


def test_blocks_are_what_is_read_and_the_index_is_when_they_are_deleted(tmp_path: Path) -> None:
    sizes = made_index(tmp_path, 7)
    blocks = built(tmp_path)
    kept = tmp_path / "places" / f"{B}.parquet"
    content = kept.read_bytes()
    kept.write_bytes(b"")
    [found] = BatchedDocumentIndex(tmp_path, blocks).between_each([(B, 0, sizes[B])])
    assert len(found) == 129
    kept.write_bytes(content)
    opened = BatchedDocumentIndex(tmp_path, blocks)
    shutil.rmtree(blocks)
    assert opened.between_each([(B, 0, sizes[B])]) == [found]


def test_a_build_goes_on_with_what_is_left_and_its_marker_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_index(tmp_path, 7)
    out = tmp_path / "blocks"
    write_blocks(tmp_path / "places" / f"{A}.parquet", out / f"{A}.blocks")
    before = (out / f"{A}.blocks").stat()
    told: list[tuple[int, int]] = []
    documents = 701 + 129
    # The marker stands for all blocks: it is not there before the last.
    write = place_blocks.write_json
    monkeypatch.setattr(
        place_blocks,
        "write_json",
        lambda path, value: (out / f"{B}.blocks").stat() and write(path, value),
    )
    done = build_blocks(
        tmp_path, out, digest="d", processes=1, progress=lambda *each: told.append(each)
    )
    assert (out / f"{A}.blocks").stat().st_mtime_ns == before.st_mtime_ns
    assert (told[0], told[-1]) == ((701, documents), (documents, documents))
    sizes = [path.stat().st_size for path in out.rglob("*.blocks")]
    assert (done.documents, done.size_bytes) == (documents, sum(sizes))
    require_blocks_of(out, "d")
    with pytest.raises(InputError, match=r"blocks\.json: .*expected \[1, 'e'\]: delete the folder"):
        require_blocks_of(out, "e")


def test_places_with_a_gap_are_refused(tmp_path: Path) -> None:
    write_index(tmp_path, [(A, 0, 9, "a", "s.gz", 1), (A, 10, 12, "b", "s.gz", 2)], 1)
    with pytest.raises(InputError, match="a document does not begin where the one before ends"):
        write_blocks(tmp_path / "places" / f"{A}.parquet", tmp_path / "out.blocks")
    assert not (tmp_path / "out.blocks").exists()


def test_any_byte_that_differs_is_an_error_and_no_missing_document(tmp_path: Path) -> None:
    write_index(tmp_path, [(A, n * 3, n * 3 + 3, f"{n}", "s.gz", 1) for n in range(300)], 64)
    blocks = built(tmp_path)
    path = blocks / f"{A}.blocks"
    content = path.read_bytes()
    everything = [(A, 0, 900)]
    for at in range(0, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(InputError, match=r"part-0-00000\.npy\.blocks: damaged: "):
            BatchedDocumentIndex(tmp_path, blocks).between_each(everything)
    for size in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"part-0-00000\.npy\.blocks: damaged: "):
            BatchedDocumentIndex(tmp_path, blocks).between_each(everything)
    path.unlink()
    with pytest.raises(InputError, match=r"damaged: .*No such file.*olmo trace index makes it"):
        BatchedDocumentIndex(tmp_path, blocks).between_each(everything)
