"""Sections `downstream` and `leaderboard` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from olmo_core.config.bounds import Bounded, at_least


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Bounded):
    """One lm-eval task."""

    name: str  # lm-eval's own name: arc_easy, hellaswag …
    limit: int | None = at_least(1, default=None)  # documents of the split; None: all
    # which: a sample that depends on nothing but task, `sample_seed` and the documents' numbers, or
    # the first ones, which in many splits are of one kind
    limit_to: Literal["sample", "first"] = "sample"
    num_fewshot: int = at_least(0, default=0)


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig(Bounded):
    """The tasks on which every model is scored."""

    tasks: tuple[TaskConfig, ...]
    batch_size: int = at_least(1, default=32)  # requests
    sample_seed: int = at_least(0, default=0)  # of the tasks' samples

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            raise ValueError(f"tasks: {f'{twice[0]} is given twice' if twice else 'none given'}")


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig:
    """Which figure of a task stands in the leaderboard's table; all stand in its rows."""

    # task -> metric; a task that is not named shows `metric`
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    metric: str = "acc"
