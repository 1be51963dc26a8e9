"""The perplexity set: whole clusters, every domain, nothing lost."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from olmo_core.corpus.duplicates import candidates, clustered, components, held_out
from olmo_core.corpus.duplicates.candidates import Survey, cluster_order
from olmo_core.corpus.duplicates.held_out import HeldOutConfig, choose
from olmo_core.corpus.duplicates.keys import table_file
from olmo_core.errors import InputError
from olmo_core.files import write_json
from olmo_core.run.job import Job


def write_survey(folder: Path, ids: Sequence[str], groups: Sequence[int], **facts: Any) -> Survey:
    """Survey of documents of 100 bytes; a group is the number of its first member."""
    table = {
        "place": np.arange(1, len(ids) + 1, dtype=np.uint64),
        "source": [name.split("/")[0] for name in ids],
        "text_bytes": np.full(len(ids), 100, np.uint64),
        "own_order": np.array([cluster_order(0, name) for name in ids], np.uint64),
    }
    with table_file(folder / "survey.parquet", candidates.DOCUMENTS) as add:
        add({**table, **facts})
    members = [number for number, first in enumerate(groups) if groups.count(first) > 1]
    with table_file(folder / "clusters.parquet", components.CLUSTERS) as add:
        columns = members, [groups[number] for number in members]
        places = (np.array(column, np.uint64) + np.uint64(1) for column in columns)
        add(dict(zip(("place", "cluster"), places, strict=True)))
    return Survey([folder / "survey.parquet"], folder / "clusters.parquet", folder)


@pytest.fixture
def chosen(tmp_path: Path) -> Any:
    """A function: roles by id of what leaves training."""

    def chosen(
        config: HeldOutConfig, groups: Sequence[int] | None = None, **sources: int
    ) -> dict[str, str]:
        ids = [f"{source}/{n}" for source, count in sources.items() for n in range(count)]
        orders = np.array([cluster_order(config.seed, name) for name in ids], np.uint64)
        clusters = groups or list(range(len(ids)))
        with write_survey(tmp_path, ids, clusters, own_order=orders) as survey:
            held = choose(survey, sources, config)
        return {ids[m.place - 1]: m.role for m in held}

    return chosen


def words(seed: int, count: int = 120) -> str:
    noise = random.Random(seed)
    return " ".join(f"w{noise.randrange(5000)}" for _ in range(count))


def test_a_share_of_each_domain_is_chosen_and_at_least_the_minimum(chosen: Any) -> None:
    roles = chosen(HeldOutConfig(share=0.02, min_documents=5), large=1000, small=20)
    assert set(roles.values()) == {"scored"}
    assert Counter(name.split("/")[0] for name in roles) == {"large": 20, "small": 5}


def test_the_choice_is_by_hash_and_does_not_depend_on_other_documents(chosen: Any) -> None:
    some = chosen(HeldOutConfig(share=0.1), a=500)
    other_seed = chosen(HeldOutConfig(share=0.1, seed=1), a=500)
    assert len(some) == len(other_seed) == 50
    assert 0 < len(set(some) & set(other_seed)) < 25
    with_another = chosen(HeldOutConfig(share=0.1), a=500, b=500)
    assert set(some) <= set(with_another)


def test_clusters_leave_whole_and_one_of_each_domain_is_scored(chosen: Any) -> None:
    # Every document of a has a copy in b, and every second one a second copy in a.
    groups = [n - n % 2 for n in range(40)] + [n - n % 2 for n in range(40)]
    roles = chosen(HeldOutConfig(share=0.1, min_documents=1), groups, a=40, b=40)
    for number in {int(name.split("/")[1]) for name in roles}:
        copies = {f"{source}/{n}" for source in "ab" for n in (number, number ^ 1)}
        assert copies <= set(roles)
    assert Counter((name[0], role) for name, role in roles.items()) == {
        ("a", "scored"): 4,
        ("a", "set aside"): 4,
        ("b", "scored"): 4,
        ("b", "set aside"): 4,
    }


def test_a_widespread_cluster_stays_in_training(chosen: Any) -> None:
    groups = [0] * 30 + list(range(30, 100))
    roles = chosen(HeldOutConfig(share=0.3, max_cluster_share=0.05), groups, a=100)
    assert len(roles) == 30
    assert all(int(name.split("/")[1]) >= 30 for name in roles)


def test_a_domain_stays_within_its_bytes(chosen: Any) -> None:
    roles = chosen(HeldOutConfig(share=0.5, max_domain_bytes=750), a=100)
    assert len(roles) == 7


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_what_cannot_be_taken_any_more_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Against a walk through all documents in their order."""
    monkeypatch.setattr(held_out, "CLUSTERS", limit)
    noise = np.random.default_rng(0)
    ids = [f"a/{n}" for n in range(3000)]
    sizes = noise.integers(50, 500, len(ids)).astype(np.uint64)
    config = HeldOutConfig(share=0.5, max_domain_bytes=20_000)
    looked_at: list[int] = []
    next_clusters = Survey._next_clusters  # pyright: ignore[reportPrivateUsage]

    def spy(*given: Any, **named: Any) -> Any:
        found, place = next_clusters(*given, **named)
        looked_at.append(len(found))
        return found, place

    monkeypatch.setattr(Survey, "_next_clusters", spy)
    with write_survey(tmp_path, ids, list(range(len(ids))), text_bytes=sizes) as survey:
        held = choose(survey, {"a": len(ids)}, config)
    expected: list[str] = []
    room = config.max_domain_bytes
    for number in sorted(range(len(ids)), key=lambda number: cluster_order(0, ids[number])):
        if sizes[number] <= room:
            expected.append(ids[number])
            room -= int(sizes[number])
    assert sorted(ids[member.place - 1] for member in held) == sorted(expected)
    assert room < 50
    assert max(looked_at) <= limit
    assert sum(looked_at) <= len(held) + 3 * limit


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_clusters_come_whole_and_in_their_order_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Against a walk through all documents; place 1 to 10 are excluded, and so are their copies."""
    monkeypatch.setattr(clustered, "READ_ROWS", 16)
    monkeypatch.setattr(clustered, "PARTITION_ROWS", 16)
    noise = np.random.default_rng(0)
    numbers = range(10, 300)
    first = {n: int(noise.integers(0, n)) if noise.random() < 0.5 else n for n in numbers}
    first = {n: m if first.get(m, m) == m else n for n, m in first.items()}
    groups = [first.get(n, n) for n in range(300)]
    ids = [f"{'ab'[n % 2]}/{n}" for n in range(300)]
    write_survey(tmp_path, ids, groups)
    rows = parquet.read_table(tmp_path / "survey.parquet").slice(10)
    parquet.write_table(rows, tmp_path / "rows.parquet")
    orders = {n: cluster_order(0, ids[n]) for n in numbers}
    expected: list[tuple[int, dict[str, int]]] = []
    for n in sorted(numbers, key=lambda n: orders[n]):
        members = Counter(ids[m][0] for m in numbers if groups[m] == n)
        if members["a"]:
            expected.append((n + 1, dict(members)))
    assert sum(sum(members.values()) > 1 for _, members in expected) > 30
    with Survey([tmp_path / "rows.parquet"], tmp_path / "clusters.parquet", tmp_path) as survey:
        found = [*survey.clusters("a", lambda: 100, limit=limit)]
        left = survey.near_excluded(11)
        sources = survey.sources()
    assert [(cluster.place, cluster.documents) for cluster in found] == expected
    assert [m.place - 1 for m in left] == [n for n in numbers if groups[n] < 10]
    sizes = Counter(groups[10:])
    for name, own in sources.items():
        near = [n for n in numbers if ids[n][0] == name and sizes[groups[n]] > 1 <= groups[n] - 9]
        assert (own["documents"], own["near_duplicates"]) == (145, len(near))
        assert own["largest_cluster"] == max(sizes[groups[n]] for n in near)


def test_paths_are_names_not_patterns(tmp_path: Path) -> None:
    for name, source in (("run[1]", "a"), ("run1", "wrong"), ("cluster=7", "a"), ("a*?'", "a")):
        folder = tmp_path / name
        folder.mkdir()
        with write_survey(folder, [f"{source}/{n}" for n in range(4)], [0, 0, 2, 3]) as survey:
            assert list(survey.sources()) == [source]
            assert [member.cluster for member in survey.members([1])] == [1, 1]


def hold_out(corpus: Any, config: dict[str, Any], **sources: dict[str, str]) -> dict[str, Any]:
    corpus.write_raw(**sources)
    corpus.run("near_duplicates", {})
    return corpus.run("held_out", config)


def test_other_clusters_of_the_same_documents_are_another_input(corpus: Any) -> None:
    """A job that was stopped after it wrote its files goes on with clusters that were made anew."""
    corpus.write_raw(a={f"{n:02d}": words(n // 2) + f" {n}" for n in range(40)})
    corpus.run("near_duplicates", {})
    made = partial(
        held_out.make,
        HeldOutConfig(share=0.1, min_documents=2),
        {name: corpus.folder(name) for name in ("raw", "near_duplicates")},
    )
    with Job.open(corpus.folder("held_out")) as job:
        assert made(job).numbers["set_aside"] == 4
    clusters = corpus.folder("near_duplicates")
    with table_file(clusters / "clusters.parquet", components.CLUSTERS) as add:
        add({name: np.zeros(0, np.uint64) for name in components.CLUSTERS})
    write_json(clusters / "result.json", {"digest": "of no clusters"})
    with Job.open(corpus.folder("held_out")) as job:
        assert made(job).numbers["set_aside"] == 0
    rows = corpus.read_lines(corpus.folder("held_out") / "held_out.jsonl.gz")
    assert [row["role"] for row in rows] == ["scored"] * 4
    assert len(corpus.documents("held_out")) == 36


def test_a_domain_that_yields_too_little_is_an_error(corpus: Any) -> None:
    texts = {str(n): words(n) for n in range(3)}
    with pytest.raises(InputError, match=r"domain b has 3 documents and yields 3 .* = 5: raise"):
        hold_out(corpus, {}, a={str(n): words(n + 10) for n in range(20)}, b=texts)


def test_a_source_of_which_nothing_would_remain_is_refused(corpus: Any) -> None:
    texts = {str(n): words(n) for n in range(5)}
    with pytest.raises(
        InputError, match=r"all 5 documents of source a would be held out, and none"
    ):
        hold_out(corpus, {"min_documents": 5}, a=texts)


def test_a_share_of_zero_holds_nothing_out(corpus: Any) -> None:
    result = hold_out(corpus, {"share": 0}, a={str(n): words(n) for n in range(3)})
    raw, rest = (corpus.folder(asset) / "documents" for asset in ("raw", "held_out"))
    [path] = rest.rglob("*.gz")
    assert path.read_bytes() == (raw / path.relative_to(rest)).read_bytes()
    assert not (corpus.folder("held_out") / "paloma").exists()
    assert result["report"]["numbers"]["remaining"] == 3
    marks = corpus.run("deduplicated", {})["report"]["numbers"]
    assert (marks["documents"], marks["held_out_paragraphs"]) == (3, 0)


def test_the_choice_reads_on_while_the_first_clusters_do_not_do(corpus: Any) -> None:
    # Most documents are too large to be taken: the few small ones stand anywhere in the order.
    texts = {f"{n:03d}": words(n, 400 if n % 50 else 10) for n in range(500)}
    config = {"share": 0.001, "min_documents": 8, "max_domain_bytes": 900}
    result = hold_out(corpus, config, a=texts)
    assert result["report"]["numbers"]["scored"] == 8


def test_no_near_copy_of_a_held_out_text_remains(corpus: Any) -> None:
    texts = {f"{n:02d}": words(n) for n in range(30)}
    copies = {f"{n:02d}-copy": words(n) + " appended" for n in range(30)}
    config = {"share": 0.2, "min_documents": 2, "max_cluster_share": 0.2}
    result = hold_out(corpus, config, prose=texts, mirror=copies)
    numbers = result["report"]["numbers"]
    assert (
        numbers["documents"]
        == 60
        == numbers["scored"] + numbers["set_aside"] + numbers["remaining"]
    )
    remaining = {row["text"] for row in corpus.documents("held_out")}
    files = sorted((corpus.folder("held_out") / "paloma").rglob("*.gz"))
    assert [path.parts[-3:] for path in files] == [
        (domain, "val", "part-00000.jsonl.gz") for domain in ("mirror", "prose")
    ]
    scored = [row for path in files for row in corpus.read_lines(path)]
    assert len(scored) == 12
    assert {"text", "id", "added", "source"} == set(scored[0])
    for row in scored:
        text = row["text"].removesuffix(" appended")
        assert text not in remaining
        assert text + " appended" not in remaining
    rows = corpus.read_lines(corpus.folder("held_out") / "held_out.jsonl.gz")
    assert len(rows) == numbers["scored"] + numbers["set_aside"]
    names: dict[int, set[str]] = {}
    for row in rows:
        names.setdefault(row["cluster"], set()).add(row["id"].split("/")[1][:2])
    assert all(len(cluster) == 1 for cluster in names.values())


def test_shares_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^share is 1\.0; expected 0 or more, and below 1"):
        HeldOutConfig(share=1.0)
    with pytest.raises(ValueError, match=r"^max_cluster_share is 2\.0; expected 1 or less"):
        HeldOutConfig(max_cluster_share=2.0)
    with pytest.raises(ValueError, match=r"^max_cluster_share is 0\.0; expected a number above 0"):
        HeldOutConfig(max_cluster_share=0.0)
