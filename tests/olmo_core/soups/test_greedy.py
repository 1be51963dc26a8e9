"""The greedy soup on planted losses, worked by hand."""

from collections.abc import Sequence

import pytest

from olmo_core.soups.greedy import Trial, choose


def trial(ingredient: str, loss: float, *, kept: bool) -> Trial:
    return Trial(ingredient=ingredient, loss=loss, kept=kept)


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        # b alone is best; c lowers the loss and stays, then a would raise it.
        (
            {"bc": 1.5, "bca": 1.6},
            [("b", 2.0, True), ("c", 1.5, True), ("a", 1.6, False)],
        ),
        # c is left out, and a is tried with b alone.
        (
            {"bc": 2.5, "ba": 1.0},
            [("b", 2.0, True), ("c", 2.5, False), ("a", 1.0, True)],
        ),
        # no worse is good enough
        ({"bc": 2.0, "bca": 2.0}, [("b", 2.0, True), ("c", 2.0, True), ("a", 2.0, True)]),
        ({"bc": 9.0, "ba": 9.0}, [("b", 2.0, True), ("c", 9.0, False), ("a", 9.0, False)]),
    ],
)
def test_an_ingredient_stays_if_the_loss_does_not_rise(
    together: dict[str, float], expected: list[tuple[str, float, bool]]
) -> None:
    asked: list[str] = []

    def loss_of(members: Sequence[str]) -> float:
        asked.append("".join(members))
        return together[asked[-1]]

    trials = choose({"a": 4.0, "b": 2.0, "c": 3.0}, loss_of)
    assert trials == [trial(name, loss, kept=kept) for name, loss, kept in expected]
    assert asked == list(together)  # nothing else is measured
    assert min(trial.loss for trial in trials if trial.kept) <= 2.0


def test_of_equal_ingredients_the_first_is_tried_first() -> None:
    trials = choose({"b": 1.0, "a": 1.0}, lambda members: 0.5)
    assert [trial.ingredient for trial in trials] == ["b", "a"]
