"""The perplexity set: whole clusters, every domain, nothing lost."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from olmo_core.corpus.duplicates.candidates import cluster_order
from olmo_core.corpus.duplicates.held_out import HeldOutConfig, Member, choose
from olmo_core.errors import InputError


def chosen(
    config: HeldOutConfig, groups: Sequence[int] | None = None, **sources: int
) -> dict[str, str]:
    """Roles by id of what leaves training; a group is the number of its first member."""
    ids = [f"{source}/{n}" for source, count in sources.items() for n in range(count)]
    clusters = groups or range(len(ids))
    everyone = [
        Member(
            place=number,
            source=name.split("/")[0],
            text_bytes=100,
            cluster=first,
            order=cluster_order(config.seed, ids[first]),
        )
        for number, (name, first) in enumerate(zip(ids, clusters, strict=True))
    ]
    choose(everyone, sources, config)
    return {ids[m.place]: m.role for m in everyone if m.role != "training"}


def words(seed: int, count: int = 120) -> str:
    noise = random.Random(seed)
    return " ".join(f"w{noise.randrange(5000)}" for _ in range(count))


def test_a_share_of_each_domain_is_chosen_and_at_least_the_minimum() -> None:
    roles = chosen(HeldOutConfig(share=0.02, min_documents=5), large=1000, small=20)
    assert set(roles.values()) == {"scored"}
    assert Counter(name.split("/")[0] for name in roles) == {"large": 20, "small": 5}


def test_the_choice_is_by_hash_and_does_not_depend_on_other_documents() -> None:
    some = chosen(HeldOutConfig(share=0.1), a=500)
    other_seed = chosen(HeldOutConfig(share=0.1, seed=1), a=500)
    assert len(some) == len(other_seed) == 50
    assert 0 < len(set(some) & set(other_seed)) < 25
    with_another = chosen(HeldOutConfig(share=0.1), a=500, b=500)
    assert set(some) <= set(with_another)


def test_clusters_leave_whole_and_one_of_each_domain_is_scored() -> None:
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


def test_a_widespread_cluster_stays_in_training() -> None:
    groups = [0] * 30 + list(range(30, 100))
    roles = chosen(HeldOutConfig(share=0.3, max_cluster_share=0.05), groups, a=100)
    assert len(roles) == 30
    assert all(int(name.split("/")[1]) >= 30 for name in roles)


def test_a_domain_stays_within_its_bytes() -> None:
    roles = chosen(HeldOutConfig(share=0.5, max_domain_bytes=750), a=100)
    assert len(roles) == 7


def hold_out(corpus: Any, config: dict[str, Any], **sources: dict[str, str]) -> dict[str, Any]:
    corpus.write_raw(**sources)
    corpus.run("near_duplicates", {})
    return corpus.run("held_out", config)


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
