"""Scores are made once for what decides them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from olmo_core.evals.cache import NotScored, cached_scores


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


def test_what_could_not_be_scored_is_tried_again(tmp_path: Path) -> None:
    keys = [{"model": "a"}, {"model": "b"}]
    failed = NotScored("too long")
    assert cached_scores(tmp_path, keys, lambda _: iter([failed, 2])) == ([failed, 2], 0)
    assert cached_scores(tmp_path, keys, lambda _: iter([1])) == ([1, 2], 1)


ENTRY = '{"key": {"model": "a"}, "value": 1}'


@pytest.mark.parametrize(
    "damage", ["", ENTRY[:-4], "[]", '{"value": 1}', ENTRY.replace("a", "b", 1), "\0" * 40]
)
def test_a_damaged_entry_is_set_aside_and_scored_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    keys = [{"model": "a"}, {"model": "b"}]
    cached_scores(tmp_path, keys, lambda missing: iter(missing))
    [entry] = [path for path in tmp_path.rglob("*.json") if '"a"' in path.read_text()]
    entry.write_text(damage)
    assert cached_scores(tmp_path, keys, lambda missing: iter([5 for _ in missing])) == ([5, 1], 1)
    assert entry.name in caplog.text
    assert entry.with_name(f"{entry.name}.damaged").read_text() == damage
    assert json.loads(entry.read_text()) == {"key": {"model": "a"}, "value": 5}
    assert cached_scores(tmp_path, keys, lambda missing: iter(())) == ([5, 1], 2)
