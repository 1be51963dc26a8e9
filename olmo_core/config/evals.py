"""Sections `downstream`, `perplexity` and `leaderboard` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One lm-eval task."""

    name: str  # lm-eval's own name: arc_easy, hellaswag …
    limit: int | None = None  # first documents of the split; None: all
    num_fewshot: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: {self.limit} is not positive; leave it out for all documents")
        if self.num_fewshot < 0:
            raise ValueError(f"num_fewshot: {self.num_fewshot} is negative")


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
        if self.batch_size < 1:
            raise ValueError(f"batch_size: {self.batch_size} is not positive")


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig:
    """Perplexity of the held-out documents in Paloma's definition."""

    name: str = "held_out"  # of the figures: task `<name>`, `<name>/<source>`, …
    max_window: int = 2048  # tokens; the model's own maximum where that is smaller
    batch_tokens: int = 2048  # padded tokens of a batch
    # UTF-8 bytes of the first documents of each source, the last one taken whole; None: all
    bytes_per_source: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_window", "batch_tokens", "bytes_per_source"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not positive")


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig:
    """Which figure of a task stands in the leaderboard's table; all stand in its rows."""

    # task -> metric; a task that is not named shows `metric`
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    metric: str = "acc"
