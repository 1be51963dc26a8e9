"""What is held is made once, for as long as the same is asked for."""

import pytest

from olmo_core.evals.held import Held


def test_the_last_value_is_held_by_what_it_is_of() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    held = Held[int]()
    assert held.get({"a": 1, "b": 2}, make) == held.get({"b": 2, "a": 1}, make) == 0
    assert held.get({"a": 2}, make) == 1
    assert held.get({"a": 1, "b": 2}, make) == 2


def test_what_fails_is_not_held() -> None:
    def fail() -> int:
        raise ValueError("no")

    held = Held[int]()
    assert held.get("a", lambda: 1) == 1
    with pytest.raises(ValueError, match="no"):
        held.get("b", fail)
    assert held.get("a", lambda: 2) == 2
