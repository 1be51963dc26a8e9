"""Near copies in `held_out` and `deduplicated`, against comparisons of every pair of documents."""

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.corpus.duplicates.columns import parquet
from olmo_core.corpus.duplicates.components import CLUSTERS
from olmo_core.corpus.duplicates.keys import place, table_file
from olmo_core.corpus.duplicates.remaining import write_clusters
from olmo_core.files import write_json


def text(seed: int, changed: int = 0) -> str:
    """Sixty words; of a text with the same seed all but the first few are the same."""
    found = [f"w{random.Random(f'{seed} {n}').randrange(10**6)}" for n in range(60)]
    return " ".join([f"c{changed}", *found[1:]] if changed else found)


def shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)}


def components(texts: dict[str, str]) -> dict[str, str]:
    """Document -> the first of those that it is a near copy of, itself or through a chain."""
    first = {name: name for name in texts}
    sets = {name: shingles(each.split()) for name, each in texts.items()}
    for one, other in combinations(texts, 2):
        if len(sets[one] & sets[other]) >= 0.7 * len(sets[one] | sets[other]):
            least, most = sorted((first[one], first[other]), key=list(texts).index)
            first = {name: least if at == most else at for name, at in first.items()}
    return first


def write(corpus: Any, noise: random.Random) -> dict[str, str]:
    """Write `raw` with excluded documents, two sources and shards; return all texts in order."""
    texts: dict[str, str] = {}
    for part in (
        "excluded/b/part-00000",
        *(f"documents/{s}/part-0000{n}" for s in "ab" for n in "012"),
    ):
        source = part.split("/")[1]
        names = [f"{part.replace('/', '-')}-{n}" for n in range(2 if "excluded" in part else 12)]
        found = {name: text(noise.randrange(30), noise.randrange(4)) for name in names}
        rows = [corpus.document(source, name, each) for name, each in found.items()]
        corpus.write_lines(corpus.folder("raw") / f"{part}.jsonl.gz", rows)
        texts |= {row["id"]: row["text"] for row in rows}
    write_json(corpus.folder("raw") / "result.json", {"digest": "of these texts"})
    return texts


@pytest.mark.parametrize("seed", range(3))
def test_of_each_cluster_that_is_left_all_but_the_first_are_near_copies(
    corpus: Any, seed: int
) -> None:
    texts = write(corpus, random.Random(seed))
    corpus.run("near_duplicates", {})
    held = {"share": 0.05, "min_documents": 2, "max_cluster_share": 0.3}
    corpus.run("held_out", held)
    result = corpus.run("deduplicated", {})
    first = components(texts)
    left = [document["id"] for document in corpus.documents("held_out")]
    assert len(left) < sum("excluded" not in name for name in texts)  # some were held out
    seen: set[str] = set()
    expected: dict[str, bool] = {}
    for name in left:
        expected[name] = first[name] in seen
        seen.add(first[name])
    marks = corpus.attributes("deduplicated", "duplicates")
    assert {name: bool(mark["duplicates__near"]) for name, mark in marks.items()} == expected
    count = result["report"]["numbers"]["near_copies"]
    assert count == sum(expected.values()) > 0
    by_source = {r["source"]: r["near_copies"] for r in result["report"]["tables"]["sources"]}
    assert by_source == {s: sum(expected[n] for n in left if n.startswith(s)) for s in "ab"}


@pytest.mark.parametrize("earlier", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_places_move_up_where_others_are_gone(tmp_path: Path, seed: int, earlier: int) -> None:
    """Any documents may go, the first of a cluster and all of a shard too; none of an earlier."""
    noise = random.Random(seed)
    first, counts = 2 + earlier, [noise.randrange(1, 9) for _ in range(6)]
    excluded = [place(0, 1), place(1, 1), place(1, 2)]
    before = [place(2 + n, line + 1) for n in range(earlier) for line in range(5)]
    places = [place(first + n, line + 1) for n, size in enumerate(counts) for line in range(size)]
    everything = [*excluded, *before, *places]
    cluster = {each: noise.randrange(16) for each in everything}
    whole = {n: [each for each in everything if cluster[each] == n] for n in range(16)}
    rows = sorted((each, found[0]) for found in whole.values() if len(found) > 1 for each in found)
    with table_file(tmp_path / "all.parquet", CLUSTERS) as add:
        add(dict(zip(CLUSTERS, np.array(rows, np.uint64).T, strict=True)))
    emptied = first + noise.randrange(6)
    gone = [each for each in places if each >> 32 == emptied or noise.random() < 0.3]
    noise.shuffle(gone)
    clusters, left_clusters = tmp_path / "all.parquet", tmp_path / "left.parquet"
    write_clusters(clusters, gone, counts, 2, left_clusters, earlier=earlier)

    left = [each for each in places if each not in gone]
    shards = sorted({each >> 32 for each in left})
    moved = {
        each: place(
            earlier + shards.index(each >> 32),
            sum(o >> 32 == each >> 32 and o <= each for o in left),
        )
        for each in left
    } | {each: each - place(2, 0) for each in before}
    expected = []
    for found in ([each for each in members if each in moved] for members in whole.values()):
        if len(found) > 1 and found[-1] in left:
            expected += [(moved[each], moved[found[0]]) for each in found]
    table = parquet().read_table(left_clusters).to_pydict()
    assert list(zip(table["place"], table["cluster"], strict=True)) == sorted(expected)
    assert expected
