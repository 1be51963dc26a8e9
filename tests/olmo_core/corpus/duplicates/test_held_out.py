"""The perplexity set: whole clusters, every domain, nothing lost."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from olmo_core.corpus.duplicates.held_out import HeldOutConfig, Member, choose
from olmo_core.errors import InputError


def members(**sources: int) -> list[Member]:
    return [
        Member(id=f"{source}/{n}", source=source, text_bytes=100)
        for source, count in sources.items()
        for n in range(count)
    ]


def chosen(
    everyone: list[Member], config: HeldOutConfig, groups: Sequence[int] | None = None
) -> dict[str, str]:
    """Roles by id of what leaves training; a group is the number of its first member."""
    for number, member in enumerate(everyone):
        member.cluster = everyone[groups[number] if groups else number].id
    choose(everyone, config)
    return {member.id: member.role for member in everyone if member.role != "training"}


def words(seed: int, count: int = 120) -> str:
    noise = random.Random(seed)
    return " ".join(f"w{noise.randrange(5000)}" for _ in range(count))


def test_a_share_of_each_domain_is_chosen_and_at_least_the_minimum() -> None:
    everyone = members(large=1000, small=20)
    roles = chosen(everyone, HeldOutConfig(share=0.02, min_documents=5))
    assert set(roles.values()) == {"scored"}
    assert Counter(name.split("/")[0] for name in roles) == {"large": 20, "small": 5}


def test_the_choice_is_by_hash_and_does_not_depend_on_other_documents() -> None:
    some = chosen(members(a=500), HeldOutConfig(share=0.1))
    other_seed = chosen(members(a=500), HeldOutConfig(share=0.1, seed=1))
    assert len(some) == len(other_seed) == 50
    assert 0 < len(set(some) & set(other_seed)) < 25
    with_another = chosen(members(a=500, b=500), HeldOutConfig(share=0.1))
    assert set(some) <= set(with_another)


def test_clusters_leave_whole_and_one_of_each_domain_is_scored() -> None:
    everyone = members(a=40, b=40)
    # Every document of a has a copy in b, and every second one a second copy in a.
    groups = [n - n % 2 for n in range(40)] + [n - n % 2 for n in range(40)]
    roles = chosen(everyone, HeldOutConfig(share=0.1, min_documents=1), groups)
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
    roles = chosen(members(a=100), HeldOutConfig(share=0.3, max_cluster_share=0.05), groups)
    assert len(roles) == 30
    assert all(int(name.split("/")[1]) >= 30 for name in roles)


def test_a_domain_stays_within_its_bytes() -> None:
    roles = chosen(members(a=100), HeldOutConfig(share=0.5, max_domain_bytes=750))
    assert len(roles) == 7


def test_a_domain_that_yields_too_little_is_an_error() -> None:
    with pytest.raises(InputError, match=r"domain b has 3 documents and yields 3 .* = 5: raise"):
        chosen(members(a=100, b=3), HeldOutConfig())


def test_no_near_copy_of_a_held_out_text_remains(corpus: Any) -> None:
    texts = {f"{n:02d}": words(n) for n in range(30)}
    copies = {f"{n:02d}-copy": words(n) + " appended" for n in range(30)}
    corpus.write_raw(prose=texts, mirror=copies)
    config = {"share": 0.2, "min_documents": 2, "max_cluster_share": 0.2}
    result = corpus.run("held_out", config)
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
    clusters = corpus.read_lines(corpus.folder("held_out") / "clusters.jsonl.gz")
    assert len(clusters) == 60
    assert all(row["cluster"].split("/")[1][:2] == row["id"].split("/")[1][:2] for row in clusters)


def test_an_id_given_twice_is_refused(corpus: Any) -> None:
    path = corpus.folder("raw") / "documents" / "prose" / "part-00000.jsonl.gz"
    corpus.write_lines(path, [corpus.document("prose", "1", words(n)) for n in range(2)])
    with pytest.raises(InputError, match="id 'prose/1' is given twice"):
        corpus.run("held_out", {"min_documents": 1})


def test_shares_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^share is 1\.0; expected 0 or more, and below 1"):
        HeldOutConfig(share=1.0)
    with pytest.raises(ValueError, match=r"^max_cluster_share is 2\.0; expected 1 or less"):
        HeldOutConfig(max_cluster_share=2.0)
    with pytest.raises(ValueError, match=r"^max_cluster_share is 0\.0; expected a number above 0"):
        HeldOutConfig(max_cluster_share=0.0)
