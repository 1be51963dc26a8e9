"""Published figures of other models, as tables of model cards have them: `published/<name>.yaml`.

They are of a suite's tasks, with its documents, examples and metrics as far as the card says.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.config.load import build, load, nearest
from olmo_core.evals.suites import BEST, MEAN, suite

FOLDER = Path(__file__).parent / "published"


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """One column of a published table."""

    name: str
    url: str  # of the model
    percent: Mapping[str, float]  # task, or average of the suite -> its headline, in percent
    tokens: int | None = None  # that it was trained on, where the table's page says it
    num_fewshot: Mapping[str, int] = field(default_factory=dict[str, int])  # unlike the suite's


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of a model card."""

    source: str
    url: str
    suite: str
    models: tuple[PublishedModel, ...]

    def __post_init__(self) -> None:
        known = self.metrics()
        for model in self.models:
            for task in (*model.percent, *model.num_fewshot):
                if task not in known:
                    raise ValueError(
                        f"models: {model.name}: no task {task!r}; {nearest(task, known)}"
                    )

    def metrics(self) -> Mapping[str, str]:
        """Return the headline's metric of each task of the suite, and of its averages."""
        tasks = {name: entry.metric or BEST for name, entry in suite(self.suite).tasks.items()}
        return {**tasks, f"{self.suite}_core": MEAN, f"{self.suite}_all": MEAN}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row per figure, its value a fraction; `published` says where it stands."""
        entries, metrics = suite(self.suite).tasks, self.metrics()
        for model in self.models:
            unknown = dict.fromkeys(("recipe", "run", "seed", "revision", "step"))
            facts = {**unknown, "model": model.name, "tokens": model.tokens}
            for task, percent in model.percent.items():
                shots = entries[task].num_fewshot if task in entries else None
                yield {
                    **facts,
                    **{"task": task, "metric": metrics[task], "value": round(percent / 100, 6)},
                    **{"stderr": None, "n": None, "task_sha256": None},
                    "num_fewshot": model.num_fewshot.get(task, shots),
                    "published": self.url,
                }


@functools.cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Return all published tables that this project knows."""
    return tuple(build(PublishedTable, load(path)) for path in sorted(FOLDER.glob("*.yaml")))
