"""Sections `downstream`, `perplexity` and `leaderboard` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from olmo_core.config.bounds import at_least


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One lm-eval task."""

    name: str  # lm-eval's own name: arc_easy, hellaswag …
    limit: int | None = None  # first documents of the split; None: all
    num_fewshot: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "limit")
        at_least(self, 0, "num_fewshot")


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig:
    """The tasks on which every model is scored."""

    tasks: tuple[TaskConfig, ...]
    batch_size: int = 32  # requests

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            raise ValueError(f"tasks: {f'{twice[0]} is given twice' if twice else 'none given'}")
        at_least(self, 1, "batch_size")


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig:
    """Perplexity of the held-out documents in Paloma's definition."""

    name: str = "held_out"  # of the figures: task `<name>`, `<name>/<source>`, …
    max_window: int = 2048  # tokens; the model's own maximum where that is smaller
    batch_tokens: int = 2048  # padded tokens of a batch
    # UTF-8 bytes of the first documents of each source, the last one taken whole; None: all
    bytes_per_source: int | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "max_window", "batch_tokens", "bytes_per_source")


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig:
    """Which figure of a task stands in the leaderboard's table; all stand in its rows."""

    # task -> metric; a task that is not named shows `metric`
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    metric: str = "acc"
