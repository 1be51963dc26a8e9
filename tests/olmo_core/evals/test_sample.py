"""A limited task is scored on a sample that depends on nothing but task, seed and documents."""

from collections import Counter

from olmo_core.evals.sample import sampled_documents
from olmo_core.evals.task_rows import rebuilt_rows
from olmo_core.evals.task_sources import DATA


def test_the_choice_is_a_pure_function_and_grows_with_the_limit() -> None:
    chosen = sampled_documents("boolq", seed=0, documents=3270, limit=6)
    assert chosen == [79, 84, 319, 1604, 1691, 1863]  # pinned: scores depend on it
    larger = sampled_documents("boolq", seed=0, documents=3270, limit=60)
    assert set(chosen) < set(larger)
    assert larger == sorted(set(larger))
    assert sampled_documents("boolq", seed=1, documents=3270, limit=6) != chosen
    assert sampled_documents("copa", seed=0, documents=3270, limit=6) != chosen
    assert sampled_documents("copa", seed=0, documents=5, limit=9) == [0, 1, 2, 3, 4]


def test_every_document_is_chosen_as_often_as_another() -> None:
    hits = Counter[int]()
    for seed in range(400):
        hits.update(sampled_documents("piqa", seed=seed, documents=40, limit=10))
    assert len(hits) == 40
    assert min(hits.values()) > 60  # of 100 expected, with a deviation of 9
    assert max(hits.values()) < 140


def test_a_sample_of_hellaswag_is_not_of_one_domain() -> None:
    rows = rebuilt_rows(DATA["hellaswag"].splits["validation"])
    domains = [row["source_id"].partition("~")[0] for row in rows]
    share = domains.count("activitynet") / len(domains)
    assert 0.2 < share < 0.8
    assert set(domains[:200]) == {"activitynet"}
    chosen = sampled_documents("hellaswag", seed=0, documents=len(rows), limit=200)
    found = [domains[number] for number in chosen].count("activitynet") / 200
    assert abs(found - share) < 0.1
