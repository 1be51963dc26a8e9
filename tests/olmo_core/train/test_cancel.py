"""When a run that is asked to stop ends."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.train.cancel import Cancel


@pytest.fixture
def config(config_file: Path) -> TrainConfig:
    return load_train_config(config_file, ["time_limit=1e9"])[0]


def make(config: TrainConfig, *, requests: int = 0, **changes: Any) -> Cancel:
    changed = dataclasses.replace(config, **changes)
    return Cancel(changed, requests=lambda: requests, step=10, last_step=100)


def test_asked_it_makes_the_extra_steps_and_ends(config: TrainConfig) -> None:
    cancel = make(config, extra_steps_after_cancel=3)
    assert not cancel.begins(11, 0)
    assert not cancel.over(11, 0)
    assert cancel.begins(12, 1)
    assert not cancel.begins(13, 1)  # it has: nothing is saved twice
    assert [cancel.over(step, 0) for step in (12, 13, 14, 15)] == [False] * 3 + [True]


def test_asked_again_it_ends_at_once(config: TrainConfig) -> None:
    cancel = make(config, extra_steps_after_cancel=3)
    assert not cancel.over(12, 1)  # not before the checkpoint
    assert cancel.begins(12, 1)
    assert cancel.over(12, 1)


def test_no_extra_steps_past_the_end_and_none_where_there_are_none(config: TrainConfig) -> None:
    cancel = make(config)  # ten, as in OLMo
    assert cancel.begins(95, 2)
    assert [cancel.over(step, 0) for step in (99, 100)] == [False, True]
    none = make(config, extra_steps_after_cancel=0)
    assert none.begins(12, 1)
    assert none.over(12, 0)


def test_the_last_step_is_no_stop(config: TrainConfig) -> None:
    assert not make(config).begins(100, 1)


def test_stop_after_counts_from_where_the_attempt_began(config: TrainConfig) -> None:
    cancel = make(config, stop_after=5)
    assert not cancel.begins(14, 0)
    assert cancel.begins(15, 0)
    assert cancel.over(15, 0)


def test_who_asks(config: TrainConfig) -> None:
    assert make(config).asked() == (False, False)
    assert make(config, requests=1).asked() == (True, False)
    assert make(config, requests=2).asked() == (True, True)
    assert make(config, time_limit=1e-9).asked() == (True, False)


def test_what_stopped_it_is_told(config: TrainConfig) -> None:
    assert make(config, stop_after=5).why(15) == "by stop_after"
    assert make(config, time_limit=1e-9).why(12) == "by time_limit"
    assert make(config, time_limit=1e-9, requests=1).why(12) == "on request"
    assert make(config, requests=1).why(12) == "on request"
