"""Suites: what a recipe's section stands for, and the rows that are made of other rows."""

import math
from typing import Any

import pytest

from olmo_core.config.evals import DownstreamConfig, SuiteConfig, TaskConfig
from olmo_core.config.load import build
from olmo_core.errors import ConfigError
from olmo_core.evals.suites import Entry, resolved, sample_seed, suite, with_headlines
from olmo_core.evals.task_files import read_task
from olmo_core.evals.task_sources import TASKS, scored_identity


def values(config: DownstreamConfig) -> dict[str, tuple[int | None, int | None]]:
    return {task.name: (task.limit, task.num_fewshot) for task in resolved(config).tasks}


def test_a_suite_stands_for_its_tasks() -> None:
    whole = values(DownstreamConfig(suites=("olmo1",)))
    assert set(whole) == set(suite("olmo1").tasks)
    assert whole["olmo1_arc_easy"] == (1000, 0)
    few = values(DownstreamConfig(suites=(SuiteConfig(name="olmo1", limit=7, num_fewshot=2),)))
    assert set(few.values()) == {(7, 2)}


def test_a_single_task_replaces_the_suites() -> None:
    own = (TaskConfig(name="olmo1_copa", limit=5), TaskConfig(name="piqa", num_fewshot=3))
    both = values(DownstreamConfig(suites=("olmo1",), tasks=own))
    assert both["olmo1_copa"] == (5, 0)
    assert both["piqa"] == (None, 3)
    assert both["olmo1_piqa"] == (1000, 0)
    assert values(DownstreamConfig(tasks=own)) == {"olmo1_copa": (5, 0), "piqa": (None, 3)}


def test_wrong_values_are_named() -> None:
    with pytest.raises(ConfigError, match="no suite 'olmo'; did you mean 'olmo1'"):
        resolved(DownstreamConfig(suites=("olmo",)))
    with pytest.raises(ConfigError, match="suites: olmo1 is given twice"):
        build(DownstreamConfig, {"suites": ["olmo1", {"name": "olmo1"}]}, where="downstream")
    with pytest.raises(ConfigError, match="tasks: none given, and no suites"):
        build(DownstreamConfig, {}, where="downstream")
    with pytest.raises(ConfigError, match=r"limit is 0; expected 1 or more"):
        build(DownstreamConfig, {"suites": [{"name": "olmo1", "limit": 0}]}, where="downstream")
    with pytest.raises(ValueError, match="expected either a metric or best_of"):
        Entry(metric="acc", best_of={"mc": "acc"})


def test_which_documents_are_scored() -> None:
    config = resolved(
        DownstreamConfig(
            tasks=(
                TaskConfig(name="olmo1_copa"),
                TaskConfig(name="copa"),
                TaskConfig(name="olmo1_boolq", limit_to="sample"),
            ),
            sample_seed=5,
        )
    )
    chosen = {task.name: (task.limit_to, sample_seed(task, config)) for task in config.tasks}
    assert chosen == {
        "olmo1_copa": ("published", 1234),
        "copa": ("sample", 5),
        "olmo1_boolq": ("sample", 5),
    }
    with pytest.raises(ConfigError, match="copa: limit_to: 'published', but no suite has this"):
        resolved(DownstreamConfig(tasks=(TaskConfig(name="copa", limit_to="published"),)))


def figure(task: str, metric: str, value: float, stderr: float | None = 0.02) -> dict[str, Any]:
    return {
        "task": task,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "n": 10,
        "truncated": 1,
    }


def test_headlines_and_averages() -> None:
    """Of nine tasks by hand: two standard errors of 0.03 and 0.04, seven of 0."""
    tasks = suite("olmo1").tasks
    shown = {name: entry.metric or "" for name, entry in tasks.items()}
    figures = [
        figure(name, metric, n / 10, (0.03, 0.04, *[0.0] * 7)[n])
        for n, (name, metric) in enumerate(shown.items())
        if name in suite("olmo1").core
    ]
    figures += [figure("olmo1_arc_easy", "acc", 0.9), figure("piqa", "acc", 0.9)]
    rows = with_headlines(figures, DownstreamConfig(suites=("olmo1",)))
    found = {(row["task"], row["metric"]): row for row in rows}
    assert found["olmo1_arc_easy", "acc_uncond"]["headline"] is True
    assert found["olmo1_arc_easy", "acc_uncond"]["chance"] == 0.25
    assert found["olmo1_arc_easy", "acc"]["headline"] is False
    assert "headline" not in found["piqa", "acc"]
    core = found["olmo1_core", "mean"]
    assert core["value"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8) / 10 / 9)
    assert core["stderr"] == pytest.approx(math.hypot(0.03, 0.04) / 9)
    assert core["n"] == 90
    assert core["truncated"] == 9
    assert core["chance"] == pytest.approx((4 * 0.5 + 5 * 0.25) / 9)
    alone = with_headlines(figures, DownstreamConfig(tasks=(TaskConfig(name="copa"),)))
    assert [row["task"] for row in alone] == [each["task"] for each in figures]


def test_no_average_where_a_task_is_missing_and_no_error_where_one_is() -> None:
    tasks = suite("olmo1").tasks
    figures = [figure(name, entry.metric or "", 0.5) for name, entry in tasks.items()]
    config = DownstreamConfig(suites=("olmo1",))
    averages = {row["task"]: row for row in with_headlines(figures, config)[len(figures) :]}
    assert averages["olmo1_all"]["value"] == pytest.approx(0.5)
    assert len(with_headlines(figures[1:], config)) == len(figures) - 1
    figures[0]["stderr"] = None
    assert with_headlines(figures, config)[-1]["stderr"] is None


TASKS_OF = (TaskConfig(name="olmo1_copa"), TaskConfig(name="copa"))


def test_what_a_task_of_ours_says_is_part_of_its_identity() -> None:
    before = scored_identity(TASKS_OF)
    assert before == scored_identity(TASKS_OF)
    assert before["task_rows"]["olmo1_copa"]["content"] == read_task(TASKS["olmo1_copa"].path)
    code = before["task_rows"]["olmo1_copa"]["code"]
    assert "olmo_core.evals.tasks.documents.copa_premise" in code
    assert all(len(digest) == 64 for digest in code.values())
    assert "content" not in before["task_rows"]["copa"]
