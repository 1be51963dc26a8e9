"""The shuffle: every row in its partition once, and queries that spill, against numpy."""

import os
from pathlib import Path

import numpy as np
import pytest

from olmo_core.corpus.duplicates import keys

COLUMNS = {"key": "uint64", "place": "uint64"}


def test_every_row_comes_back_once_in_the_partition_of_its_leading_bits(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    written: list[np.ndarray] = []
    files = [tmp_path / f"{n}.parquet" for n in range(3)]
    for path in files:
        with keys.PartitionedFile(path, COLUMNS, 8) as out:
            for size in (1, 0, 1000):
                rows = noise.integers(0, 2**64, size, np.uint64)
                out.write({"key": rows, "place": rows}, keys.by_key(rows, 8))
                written.append(rows)
    read: list[np.ndarray] = []
    for number in range(8):
        for batch in keys.read_partition(files, number, 8):
            values = batch.column("key").to_numpy()
            assert all(int(value) >> 61 == number for value in values)
            read.append(values)
    assert sorted(np.concatenate(read)) == sorted(np.concatenate(written))
    assert keys.by_key(written[-1], 1).tolist() == [0] * 1000


def test_many_small_writes_to_many_partitions_make_few_batches(tmp_path: Path) -> None:
    partitions, writes, rows = 1024, 400, 500
    with keys.PartitionedFile(tmp_path / "keys", COLUMNS, partitions) as out:
        for number in range(writes):
            values = np.random.default_rng(number).integers(0, 2**64, rows, np.uint64)
            out.write({"key": values, "place": values}, keys.by_key(values, partitions))
    size = (tmp_path / "keys").stat().st_size
    assert size < 2.5 * writes * rows * 16  # not a header of each write and partition
    found = sum(
        len(batch)
        for number in (0, 511, 1023)
        for batch in keys.read_partition([tmp_path / "keys"], number, partitions)
    )
    assert 3 * 100 < found < 3 * 300


def test_rounds_are_read_in_the_order_of_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "BATCH_ROWS", 10)
    monkeypatch.setattr(keys, "PARTITION_ROWS", 3)
    rows = np.arange(100, dtype=np.uint64)
    with keys.PartitionedFile(tmp_path / "keys", COLUMNS, 4) as out:
        for begin in range(0, 100, 7):
            some = rows[begin : begin + 7]
            out.write({"key": some, "place": some}, (some % np.uint64(4)).astype(np.int64))
    for number in range(4):
        batches = list(keys.read_partition([tmp_path / "keys"], number, 4))
        assert max(map(len, batches)) <= 5
        found = np.concatenate([batch.column("key").to_numpy() for batch in batches])
        assert found.tolist() == list(range(number, 100, 4))


def test_a_place_is_found_in_its_group() -> None:
    groups = [keys.Group(number=n, first=first, paths=()) for n, first in enumerate((0, 3, 7))]
    places = np.array([keys.place(shard, 2**31) for shard in (0, 2, 3, 6, 7, 90)], np.uint64)
    assert keys.shard_numbers(places).tolist() == [0, 2, 3, 6, 7, 90]
    assert keys.by_group(places, groups).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_query_over_more_keys_than_its_memory_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, limit = 1_500_000, "40MB"  # 24 MB of keys; to group them takes more than the limit
    monkeypatch.setattr(keys, "MEMORY_LIMIT", limit)
    noise = np.random.default_rng(0)
    found = {name: noise.integers(0, rows, rows).astype(np.uint64) for name in COLUMNS}
    with keys.PartitionedFile(tmp_path / "keys", COLUMNS, 1) as out:
        out.write(found, keys.by_key(found["key"], 1))
    least = np.full(rows, 2**63, np.uint64)
    np.minimum.at(least, found["key"], found["place"])
    with keys.query(tmp_path / "out") as connection:
        keys.give(connection, "keys", [tmp_path / "keys"], 0, 1)
        sql = "select key, min(place) as place from keys group by key"
        batches = list(keys.answers(connection, sql))
    seen = np.concatenate([batch["key"] for batch in batches])
    assert len(seen) == len(set(found["key"].tolist()))
    assert np.array_equal(np.concatenate([b["place"] for b in batches]), least[seen])


@pytest.mark.parametrize(
    ("files", "size", "groups", "partitions"),
    [(10, 300_000, 1, 1), (30, 4_000_000, 15, 8), (40, 1_000_000_000, 20, 32)],
)
def test_groups_and_partitions_are_enough_to_share_and_never_too_large(
    tmp_path: Path, files: int, size: int, groups: int, partitions: int
) -> None:
    paths = [tmp_path / f"{number:02d}" for number in range(files)]
    for path in paths:
        path.touch()
        os.truncate(path, size)  # sparse: nothing is written
    found = keys.shard_groups(paths)
    assert [path for group in found for path in group.paths] == paths
    assert [group.first for group in found] == list(range(0, files, files // groups))
    assert keys.partition_count(paths) == partitions
