"""Reduces whose keys are more than the memory that they have, and what they leave in it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.ipc as ipc
import pytest

from olmo_core.corpus.duplicates import bands, copies, digest_groups, keys, verify

DOCUMENTS = 20_000
ROWS = 1_200_000  # 34 MB of digests, 30 MB of bands
LIMIT, SLICE_BYTES = 15_000_000, 5_000_000  # in the proportion of those in use
GROUPS = [keys.Group(number=n, first=n, paths=()) for n in range(2)]


def places(numbers: np.ndarray) -> np.ndarray:
    return (numbers % 2 << keys.LINE_BITS | 1 + numbers // 2).astype(np.uint64)


def digests() -> dict[str, np.ndarray]:
    """Of which a third is found again, one in every hundredth document."""
    noise = np.random.default_rng(0)
    key = np.where(noise.random(ROWS) < 0.5, noise.integers(0, ROWS // 3, ROWS), np.arange(ROWS))
    key[::100] = 7
    key = key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    characters = noise.integers(0, 90, ROWS).astype(np.uint32)
    document = np.sort(noise.integers(0, DOCUMENTS, ROWS))
    kind = (key % np.uint64(16) == 0).astype(np.uint8)  # a text, else a paragraph
    rows = {"key": key, "low": key, "place": places(document), "kind": kind}
    return {**rows, "characters": characters}


def banded() -> dict[str, np.ndarray]:
    """Of documents of which every fifth has half of its bands in common with the one before it."""
    number = np.repeat(np.arange(ROWS // 20), 20)
    band = np.tile(np.arange(20), ROWS // 20)
    owner = np.where((number % 5 == 1) & (band % 2 == 0), number - 1, number)
    owner[(number % 1000 == 0) & (band == 0)] = 0
    key = (20 * owner + band).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = number.astype(np.uint64)
    return {"key": key, "words": words, "place": places(number), "band": band.astype(np.uint8)}


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    table = ipc.open_file(path).read_all()
    return sorted(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


@pytest.mark.parametrize(
    ("columns", "rows", "reduce", "written"),
    [
        (digest_groups.KEYS, digests, copies.compare_partition, ("",)),
        (bands.BANDS, banded, bands.pair_partition, ("pairs.arrow", "places.arrow")),
    ],
    ids=["copies", "bands"],
)
def test_half_of_the_memory_of_the_keys_is_enough(
    columns: Mapping[str, str],
    rows: Callable[[], dict[str, np.ndarray]],
    reduce: Callable[..., Any],
    written: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, file = rows(), tmp_path / "keys"
    with keys.PartitionedFile(file, columns, 1) as out:
        out.write(given, np.zeros(ROWS, np.int64))
    assert file.stat().st_size >= 2 * LIMIT
    enough = reduce([file], 0, 1, GROUPS, tmp_path / "enough")
    monkeypatch.setattr(keys, "MEMORY_LIMIT", f"{LIMIT}B")
    monkeypatch.setattr(keys, "SLICE_BYTES", SLICE_BYTES)
    assert reduce([file], 0, 1, GROUPS, tmp_path / "half") == enough
    for name in written:
        found = rows_of(tmp_path / "half" / name)
        assert len(set(found)) > 1000
        # Slices do not know of each other: a document, or a pair, may be given by several.
        assert together(found) == together(rows_of(tmp_path / "enough" / name))
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.iterdir()}
    assert left == {"keys", "enough", "half"}


def together(rows: list[tuple[Any, ...]]) -> Any:
    """Rows of repeated documents, their bits and characters taken together; else each row once."""
    if len(rows[0]) != 3 or isinstance(rows[0][2], bool):
        return set(rows)
    found: dict[int, tuple[int, int]] = {}
    for place, copied, characters in rows:
        bits, sum_of = found.get(place, (0, 0))
        found[place] = (bits | copied, sum_of + characters)
    return found


def resident(kind: str) -> int:
    """Bytes of this process in memory, of a kind that Linux tells apart."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(kind)]
    return int(line.split()[1]) * 1024


def test_shingles_that_were_read_do_not_stay_in_memory(tmp_path: Path) -> None:
    """Of a group's documents, one after the other: a map would hold all of them in the end."""
    documents, each = 64, 125_000  # 64 MB
    rows = np.arange(documents * each, dtype=np.uint64)
    (tmp_path / "shingles.bin").write_bytes(rows.tobytes())
    np.save(tmp_path / "places.npy", places(np.arange(0, 2 * documents, 2)))
    np.save(tmp_path / "ends.npy", np.arange(documents + 1) * each)
    with verify.Sets(tmp_path) as sets:
        before = resident("RssFile")
        begins, ends = sets.spans(places(np.arange(0, 2 * documents, 2)))
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            assert np.array_equal(sets.between(begin, end), rows[begin:end])
        assert resident("RssFile") - before < 8_000_000
    (tmp_path / "shingles.bin").write_bytes(rows.tobytes()[:-1])
    with verify.Sets(tmp_path) as sets, pytest.raises(EOFError, match=r"shingles\.bin: ends befor"):
        sets.between(0, documents * each)
