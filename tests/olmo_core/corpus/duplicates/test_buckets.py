"""Pairs of the documents of a bucket, against loops over all documents."""

import random
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pyarrow.ipc as ipc
import pytest

from olmo_core.corpus.duplicates import bands, buckets, keys, verify
from olmo_core.corpus.duplicates.bands import BANDS, PAIRS
from olmo_core.corpus.duplicates.buckets import Buckets, shared_keys

DOCUMENTS, BAND_COUNT, COMPARED = 300, 4, 3


def rows() -> dict[str, np.ndarray]:
    """Bands of documents of which many have the words of another, and most share some key."""
    noise = np.random.default_rng(0)
    words = np.sort(noise.integers(0, DOCUMENTS // 2, DOCUMENTS))[noise.permutation(DOCUMENTS)]
    key_of = noise.integers(0, 80, (DOCUMENTS, BAND_COUNT)) * BAND_COUNT + np.arange(BAND_COUNT)
    number = np.repeat(np.arange(DOCUMENTS), BAND_COUNT)
    columns = {
        "key": key_of[words].ravel(),
        "words": np.repeat(words, BAND_COUNT),
        "place": number,
        "band": np.tile(np.arange(BAND_COUNT), DOCUMENTS),
    }
    order = noise.permutation(len(number))
    return {name: values[order].astype(BANDS[name]) for name, values in columns.items()}


def naive(given: dict[str, np.ndarray]) -> tuple[set[tuple[int, int]], set[tuple[int, int]], int]:
    """Return the pairs to compare, those of the same words, and how many were left out."""
    by_key: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for key, words, place in zip(
        *(given[n].tolist() for n in ("key", "words", "place")), strict=True
    ):
        by_key[key][words].append(place)
    compared: set[tuple[int, int]] = set()
    left_out = 0
    for bucket in by_key.values():
        first = sorted(map(min, bucket.values()))
        pairs = [(a, b) for n, a in enumerate(first) for b in first[n + 1 :]]
        taken = {(a, b) for a, b in pairs if a in first[:COMPARED]}
        left_out += len(pairs) - len(taken)
        compared |= taken
    same: dict[int, set[int]] = defaultdict(set)
    for words, place in zip(given["words"].tolist(), given["place"].tolist(), strict=True):
        same[words].add(place)
    equal = {(min(found), later) for found in same.values() for later in found - {min(found)}}
    return compared, equal, left_out


@pytest.mark.parametrize("batch_rows", [1, 50, 1 << 20])
def test_pairs_of_buckets_are_those_of_a_loop_each_once(
    batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "BATCH_ROWS", batch_rows)
    monkeypatch.setattr(buckets, "COMPARED", COMPARED)
    found = Buckets.of(rows())
    chunks = list(found.pairs())
    pairs = [
        pair for first, later in chunks for pair in zip(first.tolist(), later.tolist(), strict=True)
    ]
    compared, equal, left_out = naive(rows())
    assert len(pairs) == len(set(pairs)) > 300
    assert set(pairs) == compared
    same = list(zip(*(column.tolist() for column in found.same), strict=True))
    assert len(same) == len(set(same)) > 100
    assert set(same) == equal
    assert 0 < found.left_out()["pairs"] == left_out
    assert set(found.places.tolist()) == {place for pair in compared for place in pair}
    assert len(chunks) == 1 if batch_rows == 1 << 20 else len(chunks) > 5


def test_only_rows_of_keys_that_stand_twice_are_kept(tmp_path: Path) -> None:
    given = rows()
    given["key"][::3] = np.arange(10**6, 10**6 + len(given["key"][::3]))  # alone
    with keys.PartitionedFile(tmp_path / "keys", BANDS, 1) as out:
        out.write(given, np.zeros(len(given["key"]), np.int64))
    found = shared_keys([tmp_path / "keys"], 0, 1, tuple(BANDS))
    expected = sorted(
        row
        for row in zip(*(values.tolist() for values in given.values()), strict=True)
        if given["key"].tolist().count(row[0]) > 1
    )
    assert 100 < len(expected) < len(given["key"]) * 2 / 3
    assert sorted(zip(*(found[name].tolist() for name in given), strict=True)) == expected


def test_a_partition_without_rows_has_no_pair(tmp_path: Path) -> None:
    with keys.PartitionedFile(tmp_path / "keys", BANDS, 2):
        pass
    found = Buckets.of(shared_keys([tmp_path / "keys"], 1, 2, tuple(BANDS)))
    assert list(found.pairs()) == []
    assert [len(column) for column in found.same] == [0, 0]
    assert found.left_out() == {"buckets": 0, "pairs": 0}


@pytest.mark.parametrize("batch_rows", [20, 300, 1 << 20])
def test_what_several_partitions_say_of_a_pair_comes_in_one_range(
    batch_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "BATCH_ROWS", batch_rows)
    noise = np.random.default_rng(0)
    documents = np.array([*combinations(range(40), 2)], np.uint64)
    files = [tmp_path / f"{number}" for number in range(5)]
    for path in files:
        first, later = documents[noise.random(len(documents)) < 0.5].T
        with keys.PartitionedFile(path, PAIRS, 1) as out:
            equal = (first + later) % np.uint64(7) == 0
            out.write({"first": first, "later": later, "equal": equal}, np.zeros(len(first), int))
    ranges = list(verify.ranges(files, 0, 1, tmp_path / "scratch"))
    assert len(ranges) == 1 if batch_rows == 1 << 20 else len(ranges) > 3
    assert max(len(first) for first, *_ in ranges) < 3 * batch_rows + 200
    given = sorted(
        row
        for path in files
        for batch in keys.read_partition([path], 0, 1)
        for row in zip(*(batch[name].to_pylist() for name in PAIRS), strict=True)
    )
    found = [
        row for one in ranges for row in zip(*(column.tolist() for column in one), strict=True)
    ]
    assert sorted(found) == given
    for (_, before, _), (_, after, _) in pairwise(ranges):
        assert before.max() < after.min()


EARLIER = range(1, 3)  # of 8 shards, behind one of excluded documents


def earlier_rows() -> list[tuple[int, int, int, int]]:
    """Two bands of documents in 8 shards, of which many have the words of another."""
    noise = random.Random(0)
    places = [keys.place(shard, line) for shard in range(8) for line in range(1, 20)]
    key_of = {
        (words, band): noise.randrange(20) << 58 | band for words in range(60) for band in (0, 1)
    }
    words_of = {place: noise.randrange(60) for place in places}
    found = [(key_of[w, band], w, place, band) for place, w in words_of.items() for band in (0, 1)]
    return noise.sample(found, len(found))


def firsts(words_of: dict[int, int], *, earlier: bool) -> dict[int, int]:
    """Return the first place of each words, among earlier corpora or among the others."""
    found: dict[int, int] = {}
    for place in sorted(words_of):
        if (place >> 32 in EARLIER) == earlier:
            found.setdefault(words_of[place], place)
    return found


def naive_earlier() -> tuple[set[tuple[int, int, bool]], Counter[int]]:
    """Return the pairs, with whether they have the same words; those left out, by key."""
    by_key: dict[int, dict[int, int]] = defaultdict(dict)
    for key, words, place, _ in earlier_rows():
        by_key[key][place] = words
    pairs: set[tuple[int, int, bool]] = set()
    left_out: Counter[int] = Counter()
    for key, words_of in by_key.items():
        own, old = (sorted(firsts(words_of, earlier=e).values()) for e in (False, True))
        for later in own:
            for first in (each for each in [*own, *old] if each < later):
                if first not in own[:COMPARED] and first not in old[:COMPARED]:
                    left_out[key] += 1
                elif words_of[first] != words_of[later]:
                    pairs.add((first, later, False))
    words_of = {place: words for _, words, place, _ in earlier_rows()}
    for found in (firsts(words_of, earlier=each) for each in (False, True)):
        for place, words in words_of.items():
            if place >> 32 not in EARLIER and found.get(words, place) < place:
                pairs.add((found[words], place, True))
    return pairs, left_out


@pytest.mark.parametrize("batch_rows", [1, 50, 1 << 20])
def test_as_many_earlier_documents_are_compared_as_own_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """None of them is the later of a pair."""
    monkeypatch.setattr(buckets, "COMPARED", COMPARED)
    monkeypatch.setattr(buckets, "BATCH_ROWS", batch_rows)
    columns = dict(zip(BANDS, np.array(earlier_rows(), np.uint64).T, strict=True))
    with keys.PartitionedFile(tmp_path / "keys", BANDS, 1) as out:
        out.write(columns, np.zeros(len(columns["key"]), np.int64))
    groups = [keys.Group(number=0, first=0, paths=())]
    counts = bands.pair_partition(
        [tmp_path / "keys"], 0, 1, groups, tmp_path / "out", earlier=EARLIER
    )
    table = ipc.open_file(tmp_path / "out" / "pairs.arrow").read_all().to_pydict()
    found = [*zip(*table.values(), strict=True)]
    pairs, left_out = naive_earlier()
    assert len(found) == len(pairs) > 300
    assert set(found) == pairs
    assert counts == {"buckets": len(left_out), "pairs": left_out.total()}
    assert len(left_out) > 3
