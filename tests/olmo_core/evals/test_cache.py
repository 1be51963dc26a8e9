"""Scores are made once for what decides them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from olmo_core.evals.cache import cached_scores


def test_equal_keys_are_scored_once(tmp_path: Path) -> None:
    asked: list[Sequence[int]] = []

    def score(missing: Sequence[int]) -> Iterator[Any]:
        asked.append(missing)
        yield from (f"score of {number}" for number in missing)

    keys = [{"model": "a", "data": 1}, {"data": 1, "model": "a"}, {"model": "b", "data": 1}]
    scores, not_made = cached_scores(tmp_path, keys, score)
    assert (scores, not_made) == (["score of 0", "score of 0", "score of 2"], 1)
    assert asked == [[0, 2]]
    assert cached_scores(tmp_path, keys, score) == (scores, 3)
    assert asked[1:] == [[]]
