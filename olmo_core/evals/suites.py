"""Suites: the tables of published model cards, as `suites/<name>.yaml` list them. Free of torch.

A suite says which metric of a task is its headline, from how many documents and examples, what a
guess would get, and which tasks are averaged. What a task asks is in `tasks/<suite>/`.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.config.evals import DownstreamConfig, SuiteConfig, TaskConfig
from olmo_core.config.load import build, load, nearest
from olmo_core.errors import ConfigError
from olmo_core.evals.task_files import read_task
from olmo_core.evals.task_sources import task_source

FOLDER = Path(__file__).parent / "suites"
SUITES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
MEAN, BEST = "mean", "best"  # metrics of the rows that are made of other rows
CHANCE = "chance"  # metric of a task where a guess depends on the documents


@dataclass(frozen=True, kw_only=True)
class Entry(Bounded):
    """One figure of a suite: a metric of a task, or the best of several forms of it."""

    metric: str | None = None
    # form -> metric: the task <name>_<form>'s
    best_of: Mapping[str, str] = field(default_factory=dict[str, str])
    limit: int | None = at_least(1, default=None)  # documents, None: all
    num_fewshot: int = at_least(0, default=0)
    sample_seed: int = at_least(0, default=1234)  # of the documents, where there are more
    # what a guess gets; None: the task's own metric `chance` says it
    chance: float | None = at_least(0, at_most=1, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.metric is None) == (not self.best_of):
            raise ValueError("metric: expected either a metric or best_of")

    def metrics(self, name: str) -> dict[str, str]:
        """Return the metric of each task that the entry `name` is made of."""
        if self.metric is not None:
            return {name: self.metric}
        return {f"{name}_{form}": metric for form, metric in self.best_of.items()}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A table: its figures, and which of them the average `core` is over; `all` is over all."""

    core: tuple[str, ...]
    tasks: Mapping[str, Entry]

    def __post_init__(self) -> None:
        for name in self.core:
            if name not in self.tasks:
                raise ValueError(f"core: no task {name!r}; {nearest(name, self.tasks)}")


@functools.cache
def suite(name: str) -> Suite:
    """Return a suite.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in SUITES:
        raise ConfigError(f"downstream.suites: no suite {name!r}; {nearest(name, SUITES)}")
    return build(Suite, load(FOLDER / f"{name}.yaml"))


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Return the figures of all suites by name."""
    return {name: entry for each in SUITES for name, entry in suite(each).tasks.items()}


def resolved(config: DownstreamConfig) -> DownstreamConfig:
    """Return the configuration with all tasks spelled out: those of its suites, then its own.

    A task that a suite has keeps the suite's limit and number of examples where nothing else is
    said; of any other, all documents are scored, without examples. An own task replaces a suite's.

    Raises:
        ConfigError: a suite or task is unknown, a task of no suite is limited to a published
            sample, or a task of one's own file has the name of a suite's.
    """
    tasks: dict[str, TaskConfig] = {}
    for each in config.suites:
        chosen = SuiteConfig(name=each) if isinstance(each, str) else each
        for name in suite(chosen.name).tasks:
            task = TaskConfig(name=name, limit=chosen.limit, num_fewshot=chosen.num_fewshot)
            tasks |= {task.name: task for task in _forms(task)}
    for task in config.tasks:
        tasks |= {task.name: task for task in _forms(task)}
    return replace(config, tasks=tuple(tasks.values()))


def _forms(task: TaskConfig) -> Iterator[TaskConfig]:
    """Yield the tasks that a name stands for, with the values of their suite filled in."""
    entry = entries().get(_owners().get(task.name, task.name))
    if entry is not None and task.file is not None:
        raise ConfigError(
            f"downstream.tasks: {task.name}: a suite's task has this name, so its figures would "
            "count as the suite's; expected another name for the task of a file of your own"
        )
    if entry is None:
        if task.limit_to == "published":
            raise ConfigError(
                f"downstream.tasks: {task.name}: limit_to: 'published', but no suite has this "
                "task; expected sample or first"
            )
        examples, source = task.num_fewshot, task_source(task)
        if examples is None and source.data is None:
            examples = read_task(source.path).get("num_fewshot")
        yield replace(task, num_fewshot=examples or 0, limit_to=task.limit_to or "sample")
        return
    limit_to = task.limit_to or "published"
    limit = entry.limit if task.limit is None else task.limit
    num_fewshot = entry.num_fewshot if task.num_fewshot is None else task.num_fewshot
    for name in entry.metrics(task.name) if task.name in entries() else (task.name,):
        yield replace(task, name=name, limit=limit, limit_to=limit_to, num_fewshot=num_fewshot)


def sample_seed(task: TaskConfig, config: DownstreamConfig) -> int:
    """Return the seed that chooses the documents of a resolved task."""
    if task.limit_to == "published":
        return entries()[_owners()[task.name]].sample_seed
    return config.sample_seed


@functools.cache
def _owners() -> Mapping[str, str]:
    """Return the entry that each task is part of."""
    return {task: name for name, entry in entries().items() for task in entry.metrics(name)}


def figures_identity(config: DownstreamConfig) -> dict[str, Any]:
    """Return what the suites say of the tasks of a resolved configuration, for a fingerprint."""
    owners = sorted({_owners()[task.name] for task in config.tasks if task.name in _owners()})
    names = [each if isinstance(each, str) else each.name for each in config.suites]
    return {
        "figures": {name: repr(entries()[name]) for name in owners},
        "averages": {name: [suite(name).core, sorted(suite(name).tasks)] for name in names},
    }


def with_headlines(
    figures: Sequence[Mapping[str, Any]], config: DownstreamConfig
) -> list[dict[str, Any]]:
    """Return one model's figures with `headline` and `chance`, and the rows made of them.

    `headline` is true for the figure that a suite shows of a task, false for others of its tasks,
    and absent where no suite has the task. Rows are added for the best of several forms, and for
    the averages `<suite>_core` and `<suite>_all` of the suites that the configuration names, each
    where all that it is made of is there. The standard error of a mean of k figures is the root
    of the sum of their squared errors, over k.
    """
    rows: list[dict[str, Any]] = []
    guessed = {each["task"]: each["value"] for each in figures if each["metric"] == CHANCE}
    for figure in figures:
        owner = _owners().get(figure["task"])
        if owner is None:
            rows.append(dict(figure))
            continue
        entry = entries()[owner]
        shown = entry.metric is not None and figure["metric"] == entry.metric
        rows.append({**figure, "headline": shown})
        if shown:
            chance = guessed.get(owner) if entry.chance is None else entry.chance
            rows[-1]["chance"] = chance
    rows += _best(rows)
    for each in config.suites:
        name = each if isinstance(each, str) else each.name
        found = {row["task"]: row for row in rows if row.get("headline")}
        for average, tasks in (("core", suite(name).core), ("all", suite(name).tasks)):
            if all(task in found for task in tasks):
                rows.append(_mean(f"{name}_{average}", [found[task] for task in tasks]))
    return rows


def _best(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    values = {(row["task"], row["metric"]): row for row in rows}
    best: list[dict[str, Any]] = []
    for name, entry in entries().items():
        parts = [values.get(part) for part in entry.metrics(name).items()]
        whole = [part for part in parts if part is not None]
        if entry.best_of and len(whole) == len(parts):
            row = max(whole, key=lambda part: part["value"])
            made = {"task": name, "metric": BEST, "headline": True, "chance": entry.chance}
            best.append({**row, **made})
    return best


def _mean(task: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    errors, chances = ([row[key] for row in rows] for key in ("stderr", "chance"))
    count = len(rows)
    return {
        "task": task,
        "metric": MEAN,
        "value": sum(row["value"] for row in rows) / count,
        "stderr": None if None in errors else math.sqrt(sum(e * e for e in errors)) / count,
        "n": sum(row["n"] for row in rows),
        "truncated": sum(row["truncated"] for row in rows),
        "headline": True,
        "chance": None if None in chances else sum(chances) / count,
    }
