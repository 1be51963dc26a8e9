"""Many ranges at once against one look-up each."""

from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import InputError
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from tests.olmo_core.documents import Row, write_index


@pytest.mark.parametrize("group", [1, 7, 4096])
def test_each_range_has_the_documents_of_a_look_up_of_its_own(group: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    sizes: dict[str, int] = {}
    for file in ("tokens/a/part-0-00000.npy", "tokens/b/part-0-00000.npy"):
        end = 0
        for number, length in enumerate(rng.integers(1, 40, 150).tolist()):
            rows.append((file, end, end + length, f"{file}:{number}", "s.gz", number + 1))
            end += length
        sizes[file] = end
    write_index(tmp_path, rows, group)
    one, batched = DocumentIndex(tmp_path), BatchedDocumentIndex(tmp_path)
    ranges: list[tuple[str, int, int]] = [("tokens/none.npy", 0, 9)]
    for file, size in sizes.items():
        ranges += [(file, 0, 1), (file, 0, size), (file, size - 1, size), (file, size, size + 5)]
        for start in rng.integers(0, size, 100).tolist():
            ranges.append((file, start, start + int(rng.integers(1, 200))))
        ranges += [(file, at, at + 1) for at in rng.integers(0, size, 100).tolist()]
    found = batched.between_each(ranges)
    assert found == [one.between(*each) for each in ranges]
    assert found[0] == []
    assert batched.between_each([]) == []
    for file, size in sizes.items():
        tokens = np.sort(rng.integers(0, size + 9, 120))
        expected = [one.between(file, token, token + 1) for token in tokens.tolist()]
        bounds = [(each[0].start, each[0].end) if each else (-1, -1) for each in expected]
        assert batched.bounds(file, tokens).tolist() == [[*each] for each in bounds]
        assert batched.bounds(file, tokens[:0]).shape == (0, 2)
    assert batched.bounds("tokens/none.npy", np.array([0, 5])).tolist() == [[-1, -1]] * 2


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    file = "tokens/a/part-0-00000.npy"
    write_index(tmp_path, [(file, 0, 9, "a", "s.gz", 1)], 7)
    path = tmp_path / "places" / f"{file}.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"part-0-00000\.npy\.parquet: not part of a documents"):
        BatchedDocumentIndex(tmp_path).between_each([(file, 0, 5)])
