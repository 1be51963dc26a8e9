"""The spread of scores: by hand, and the same however documents are divided."""

import json
import random

import pytest

from olmo_core.corpus.filters.scores import MOST_LABELS, Scores


def test_figures_are_those_counted_by_hand() -> None:
    scores = Scores(["tags__quality__", "tags__language__"])
    for score in (0.0, 0.2, 0.4, 0.499, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        scores.add("books", {"tags__quality__high": [[0, 10, score]], "tags__c4_v2__lines": []})
    # Of two lines, the longer counts for more; an empty span says nothing.
    scores.add("books", {"tags__language__en": [[0, 1, 0.0], [1, 4, 1.0], [4, 4, 0.0]]})
    high, english = scores.table()
    assert high == {
        "source": "books",
        "tagger": "quality",
        "label": "high",
        "documents": 10,
        "at_least_half": 6,
        "mean": 0.5599,
        "p10": 0.0,
        "median": 0.5,
        "p90": 0.9,
    }
    assert (english["tagger"], english["label"], english["mean"]) == ("language", "en", 0.75)


def test_parts_join_to_the_same_figures() -> None:
    rng = random.Random(0)
    documents = [(f"s{n % 3}", {"tags__q__a": [[0, 9, rng.random()]]}) for n in range(300)]
    whole, joined = Scores(["tags__q__"]), Scores(["tags__q__"])
    for document in documents:
        whole.add(*document)
    for first in (200, 0, 100):
        part = Scores(["tags__q__"])
        for document in documents[first : first + 100]:
            part.add(*document)
        joined.join(json.loads(json.dumps(part.facts())))
    assert joined.table() == whole.table()
    assert [row["documents"] for row in whole.table()] == [100, 100, 100]


@pytest.mark.parametrize("score", [0.29, 0.57, 0.58, 1.0])
def test_a_hundredth_has_its_own_bin(score: float) -> None:
    """0.29 * 100 is 28.999…."""
    scores = Scores(["tags__q__"])
    scores.add("s", {"tags__q__a": [[0, 1, score]]})
    assert scores.table()[0]["median"] == score


def test_the_most_frequent_labels_are_shown() -> None:
    scores = Scores(["tags__language__"])
    for number in range(100):
        scores.add("s", {f"tags__language__l{number:02}": [[0, 1, number / 100]]})
    table = scores.table()
    assert len(table) == MOST_LABELS
    assert [row["label"] for row in table[:2]] == ["l99", "l98"]
