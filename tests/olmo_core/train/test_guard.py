"""Updates that are left out: when, and that nothing at all changes then."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from olmo_core.config.compute import SkipStepConfig
from olmo_core.train.guard import Guard
from olmo_core.train.state import History

CPU = torch.device("cpu")
SOME = torch.tensor(7.0)  # labels


def is_spike(rule: Guard, loss: float, norm: float, labels: Tensor = SOME) -> bool:
    left_out, skipped = rule.judge(
        torch.tensor(loss), torch.tensor(norm), torch.tensor(0.0), labels
    )
    assert left_out == skipped
    return bool(skipped)


def judgements(rule: Guard, losses: list[float], norms: list[float]) -> list[bool]:
    pairs = zip(losses, norms, strict=True)
    return [is_spike(rule, *pair) for pair in pairs]


@pytest.mark.parametrize(
    ("value", "skipped"),
    # 1, 2, 3, 4: mean 2.5, unbiased deviation sqrt(5 / 3) = 1.29099, bound 10.246. The deviation of
    # the population, 1.118, would put it at 9.208.
    [(10.2, False), (10.3, True), (-50.0, False)],
)
def test_the_bound_by_hand(value: float, skipped: bool) -> None:
    rule = Guard(SkipStepConfig(window=4, sigma=6.0), History(), CPU)
    quiet = [1.0] * 5
    assert judgements(rule, [1, 2, 3, 4, value], quiet) == [False] * 4 + [skipped]
    rule = Guard(SkipStepConfig(window=4, sigma=6.0), History(), CPU)
    assert judgements(rule, quiet, [1, 2, 3, 4, value]) == [False] * 4 + [skipped]


def test_a_skipped_value_is_in_the_window_of_the_next() -> None:
    rule = Guard(SkipStepConfig(window=4, sigma=6.0), History(), CPU)
    # after 10.3 the window is 2, 3, 4, 10.3: mean 4.825, deviation 3.738, bound 27.25
    assert judgements(rule, [1, 2, 3, 4, 10.3, 27.2], [1.0] * 6)[-2:] == [True, False]


def test_a_step_without_labels_is_not_in_the_window() -> None:
    rule = Guard(SkipStepConfig(window=4, sigma=6.0), History(), CPU)
    for values in ([1.0, 2.0], [3.0, 4.0]):  # as by hand above, with such steps between
        assert judgements(rule, values, [1.0] * 2) == [False] * 2
        for value in (0.0, 99.0):
            assert not is_spike(rule, value, value, torch.tensor(0.0))
    assert judgements(rule, [10.3], [1.0]) == [True]


def test_nothing_is_skipped_before_half_a_window() -> None:
    for quiet, skipped in ((62, False), (63, True)):  # with its own, 64 of 128
        rule = Guard(SkipStepConfig(), History(), CPU)
        losses = [1.0, 1.1] * (quiet // 2) + [1.0] * (quiet % 2)
        assert judgements(rule, [*losses, 99.0], [1.0] * (quiet + 1))[-1] is skipped


def test_a_resumed_rule_judges_as_the_one_that_went_on() -> None:
    rng = np.random.default_rng(0)
    config = SkipStepConfig(window=6, sigma=2.0)
    losses, norms = (rng.normal(3, 1, 40).astype(np.float32).tolist() for _ in "ab")
    whole = judgements(Guard(config, History(), CPU), losses, norms)
    assert 0 < sum(whole) < 20
    expected = []
    for i in range(40):  # the rule again, plainly
        window = slice(max(0, i - 6), i)
        bounds = [
            np.mean(values[window]) + 2 * np.std(values[window], ddof=1)
            for values in ((losses, norms) if i >= 2 else ())
        ]
        expected.append(i >= 2 and (losses[i] > bounds[0] or norms[i] > bounds[1]))
    assert whole == expected
    for stop in (1, 5, 6, 17):
        history = History()
        for pair in zip(losses[:stop], norms[:stop], strict=True):
            history.record(*pair)
        resumed = judgements(Guard(config, history, CPU), losses[stop:], norms[stop:])
        assert resumed == whole[stop:]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_after_what_is_not_finite_no_update_is_made(bad: float) -> None:
    for place in range(3):
        guard = Guard(None, History(), CPU)
        values = [torch.tensor(1.0)] * 3
        assert [x.item() for x in guard.judge(*values, labels=SOME)] == [0.0, 0.0]
        values[place] = torch.tensor(bad)
        assert [x.item() for x in guard.judge(*values, labels=SOME)] == [1.0, 0.0]
        values[place] = torch.tensor(1.0)
        assert [x.item() for x in guard.judge(*values, labels=SOME)] == [1.0, 0.0]
