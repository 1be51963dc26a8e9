"""Sections `downstream` and `leaderboard` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from olmo_core.config.bounds import Bounded, at_least


@dataclass(frozen=True, kw_only=True)
class SuiteConfig(Bounded):
    """All tasks of a suite."""

    name: str  # olmo1, olmes
    # documents of each task, and examples before each; None: the suite's own
    limit: int | None = at_least(1, default=None)
    num_fewshot: int | None = at_least(0, default=None)


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Bounded):
    """One task, of lm-eval or of a suite."""

    name: str  # arc_easy, olmo1_arc_easy …
    file: str | None = None  # of your own task, in lm-eval's YAML form; ~ and ${VARIABLES} expand
    # documents of the split; None: the suite's own, all if it is of none
    limit: int | None = at_least(1, default=None)
    # which: a sample that depends on nothing but task, `sample_seed` and the documents' numbers,
    # the first ones, which in many splits are of one kind, or the sample of the published figures;
    # None: published if the task is of a suite, else sample
    limit_to: Literal["sample", "first", "published"] | None = None
    # None: the suite's own, else what the task's file says, else 0
    num_fewshot: int | None = at_least(0, default=None)


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig(Bounded):
    """The tasks on which every model is scored: those of the suites, and single ones.

    A single task replaces the suite's of its name.
    """

    suites: tuple[str | SuiteConfig, ...] = ()
    tasks: tuple[TaskConfig, ...] = ()
    batch_size: int = at_least(1, default=32)  # requests
    sample_seed: int = at_least(0, default=0)  # of the tasks' samples

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.suites and not self.tasks:
            raise ValueError("tasks: none given, and no suites")
        for key, given in (("suites", self.suites), ("tasks", self.tasks)):
            names = [each if isinstance(each, str) else each.name for each in given]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key}: {twice[0]} is given twice")


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig:
    """Which figure of a task stands in the leaderboard's table; all stand in its rows."""

    # task -> metric; a task that is not named shows its suite's metric, or `metric` if it has none
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    metric: str = "acc"
