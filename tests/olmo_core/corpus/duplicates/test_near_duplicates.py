"""Near copies, against Jaccard similarities of sets of strings."""

import random
import re
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as parquet
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from olmo_core.corpus.duplicates import buckets, keys, shingles, verify
from olmo_core.corpus.duplicates.near_duplicates import NearDuplicateConfig


def runs_of(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[n : n + 5]) for n in range(max(1, len(words) - 4))}


def clusters(corpus: Any) -> dict[str, set[str]]:
    """First document of a cluster -> its documents, by id."""
    documents = corpus.folder("raw") / "documents"
    ids = {
        keys.place(shard, line): row["id"]
        for shard, path in enumerate(sorted(documents.rglob("*.gz")))
        for line, row in enumerate(corpus.read_lines(path), start=1)
    }
    found: dict[str, set[str]] = {}
    table = parquet.read_table(corpus.folder("near_duplicates") / "clusters.parquet")
    assert table["place"].to_pylist() == sorted(table["place"].to_pylist())
    for place, cluster in zip(*table.to_pydict().values(), strict=True):
        found.setdefault(ids[cluster], set()).add(ids[place])
    return found


def run(corpus: Any, texts: Mapping[str, str], **config: Any) -> dict[str, Any]:
    corpus.write_raw(a=texts)
    return corpus.run("near_duplicates", config)


def variants(documents: int, seed: int) -> dict[str, str]:
    """Texts of which many are changed versions of others, by more or less."""
    noise = random.Random(seed)
    vocabulary = [f"w{n}" for n in range(3000)]
    texts: list[list[str]] = []
    for _ in range(documents):
        if texts and noise.random() < 0.5:
            words = list(noise.choice(texts))
            for _ in range(noise.randrange(12)):
                words[noise.randrange(len(words))] = noise.choice(vocabulary)
        else:
            words = noise.choices(vocabulary, k=noise.randrange(60, 200))
        texts.append(words)
    return {f"{n:04d}": " ".join(words) for n, words in enumerate(texts)}


def test_clusters_are_the_components_of_all_pairs_above_the_threshold(corpus: Any) -> None:
    texts = variants(300, seed=1)
    # So many bands that no pair is missed: what is left are the comparison and the components.
    numbers = run(corpus, texts, threshold=0.7, permutations=128, bands=64)["report"]["numbers"]
    sets = [runs_of(text) for text in texts.values()]
    links = [
        (n, m)
        for m in range(len(sets))
        for n in range(m)
        if len(sets[n] & sets[m]) >= 0.7 * len(sets[n] | sets[m])
    ]
    graph = coo_array(([1] * len(links), tuple(zip(*links, strict=True))), shape=(300, 300))
    _, labels = connected_components(graph, directed=False)
    expected: dict[int, set[str]] = {}
    for name, label in zip(texts, labels.tolist(), strict=True):
        expected.setdefault(label, set()).add(f"a/{name}")
    expected = {label: names for label, names in expected.items() if len(names) > 1}
    assert clusters(corpus) == {min(names): names for names in expected.values()}
    assert 50 < numbers["near_duplicates"] == sum(map(len, expected.values()))
    assert numbers["clusters"] == len(expected)
    assert numbers["later_copies"] == numbers["near_duplicates"] - len(expected)
    assert numbers["pairs_left_out"] == 0


def test_the_result_does_not_depend_on_how_the_work_is_cut(
    corpus: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = tiny
    raw = corpus.folder("raw")
    raw.parent.mkdir(parents=True)
    raw.symlink_to(whole.folder("raw"))
    monkeypatch.setattr(keys, "GROUP_SHARDS", 2)
    monkeypatch.setattr(keys, "PARTITION_BYTES", 40_000)
    monkeypatch.setattr(shingles, "BATCH_CHARACTERS", 20_000)
    monkeypatch.setattr(shingles, "BLOCK_BYTES", 300)
    monkeypatch.setattr(keys, "BATCH_ROWS", 50)
    monkeypatch.setattr(buckets, "BATCH_ROWS", 20)
    monkeypatch.setattr(verify, "BATCH_ROWS", 7)
    corpus.run("near_duplicates", {}, processes=1)
    assert clusters(corpus) == clusters(whole)
    assert len(clusters(corpus)) >= 10


def test_copies_of_the_same_words_need_no_comparison(corpus: Any) -> None:
    words = [f"w{n}" for n in range(100)]
    texts = {f"{n:03d}": " ".join(words) + "." * n for n in range(300)}
    texts["other"] = " ".join(words[:99]).upper()
    numbers = run(corpus, texts)["report"]["numbers"]
    assert numbers["pairs_compared"] == numbers["pairs_found"] == 1
    assert numbers["later_copies"] == 300
    assert clusters(corpus) == {"a/000": {f"a/{name}" for name in texts}}


def test_large_buckets_are_cut_and_counted(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "COMPARED", 3)
    words = [f"w{n}" for n in range(400)]
    texts = {f"{n:02d}": " ".join([*words, f"v{n}"]) for n in range(10)}
    corpus.write_raw(a=texts)
    numbers = corpus.run("near_duplicates", {}, processes=1)["report"]["numbers"]
    assert numbers["buckets_cut"] > 0
    assert numbers["pairs_left_out"] >= 7 * 6 // 2
    assert numbers["pairs_compared"] < 45
    # All are compared with the first three, which connects them all the same.
    assert [len(found) for found in clusters(corpus).values()] == [10]


def test_groups_join_through_a_chain(corpus: Any) -> None:
    words = [f"w{n}" for n in range(1000)]
    # Neighbours share 466 of 526 shingles (0.89); the ends 346 of 646 (0.54), too few for a pair.
    texts = {str(n): " ".join(words[30 * n : 30 * n + 500]) for n in range(6)}
    run(corpus, texts)
    assert clusters(corpus) == {"a/0": {f"a/{n}" for n in range(6)}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0; expected a number above 0"),
        ({"bands": 7}, "permutations is 120; expected a multiple of bands, 7"),
        ({"shingle_words": 0}, "shingle_words is 0; expected 1 or more"),
    ],
)
def test_values_that_find_nothing_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NearDuplicateConfig(**wrong)  # pyright: ignore[reportArgumentType]
