"""The curves of a recipe's runs: figures of their checkpoints over the tokens behind them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.evals.board import METRICS, columns_of, evaluations
from assets.evals.figures import figures, in_loop_evaluations
from assets.graph import Graph
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.evals.columns import Column
from olmo_core.evals.store.read import IN_LOOP, Results
from olmo_core.monitor.curves import Curve, Panel

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Panels, one per task, and what is to be said of them."""

    panels: Sequence[Panel]
    notes: Sequence[str]


def make_curves(
    graphs: Sequence[Graph], results: Results, root: Path, tasks: Sequence[str]
) -> Curves:
    """Return one panel per task, with a curve per run of each recipe.

    Exported models are points of their run's curve. Each stands at the tokens behind its weights:
    those of its run and of all that the run began from; where these are not known, at its own run's
    alone, with a note. A figure that was asked otherwise than the last one of its panel (prompts,
    data, sample) is left out, with a note. What runs evaluated while they trained are curves of
    their own in the same panels.

    Args:
        graphs: Of the recipes.
        results: The store.
        root: The folder of all results.
        tasks: By name; none: each column of the leaderboard, then what else is evaluated in loop.

    Raises:
        ConfigError: no checkpoint of the recipes has a figure of a task; names those that have.
    """
    chosen: dict[str, list[str]] = {}
    notes: list[str] = []
    for graph in graphs:
        found, said = evaluations(graph, results, root, checkpoints=True)
        chosen[graph.recipe.name] = found
        notes += said
    in_loop = {graph.recipe.name: in_loop_evaluations(graph, results) for graph in graphs}
    columns = columns_of(graphs, results, chosen)
    columns += _in_loop_columns(columns, results, in_loop)
    wanted = _chosen(columns, tasks)
    shown = [(task, metric) for _, task, metric in wanted]
    points: dict[tuple[str, str, bool], dict[str, list[Row]]] = {}
    no_numbers = 0
    for name, ids in chosen.items():
        for row in figures(results, [*ids, *in_loop[name]], shown):
            if math.isfinite(row["value"]):
                key = (row["task"], row["metric"], row["asset"] == IN_LOOP)
                points.setdefault(key, {}).setdefault(name, []).append(row)
            else:
                no_numbers += 1
    panels: list[Panel] = []
    left = {False: 0, True: 0}
    for title, task, metric in wanted:
        curves: list[Curve] = []
        for trained in left:
            same, others = _comparable(points.get((task, metric, trained), {}))
            left[trained] += others
            for name, found in same.items():
                curves += _curves(name, found, graphs, in_loop=trained)
        if curves:
            panels.append(Panel(title=title, label=metric, curves=curves))
    notes += _left_out(left[False], left[True], no_numbers)
    if unknown := _of_unknown_origin(points.values()):
        notes.append(
            f"{', '.join(unknown)}: drawn over the tokens of the run alone; those of the model "
            "that it began from are not known"
        )
    return Curves(panels=panels, notes=notes)


def _in_loop_columns(
    columns: Sequence[Column], results: Results, in_loop: Mapping[str, Sequence[str]]
) -> list[Column]:
    """Return the columns of in-loop figures that are in none yet, each with a title of its own.

    The perplexity of a set is left to its loss, of which it is the exponential.
    """
    ids = [each for found in in_loop.values() for each in found]
    titles = {title for title, _, _ in columns}
    known = {(task, metric) for _, task, metric in columns}
    return [
        (f"{task} {metric}" if task in titles else task, task, metric)
        for task, metric in dict.fromkeys(
            (row["task"], row["metric"]) for row in results.query(METRICS, evaluations=ids)
        )
        if (task, metric) not in known and metric != "perplexity_token"
    ]


def _left_out(others: int, of_training: int, no_numbers: int) -> list[str]:
    """Return how many figures are in no curve, and why."""
    notes: list[str] = []
    if others:
        notes.append(
            f"{others} figures are left out: they were asked otherwise (prompts, data or sample) "
            "than the last of their task; olmo sweep evaluates the checkpoints anew"
        )
    if of_training:
        notes.append(
            f"{of_training} in-loop figures are left out: they were asked otherwise (data, limit) "
            "than the last of their label"
        )
    if no_numbers:
        notes.append(f"{no_numbers} figures are left out: their values are no finite numbers")
    return notes


def _of_unknown_origin(points: Iterable[Mapping[str, Sequence[Row]]]) -> list[str]:
    """Return the names of the runs of which only their own tokens are known."""
    every = (row for of_task in points for rows in of_task.values() for row in rows)
    names = (
        row["model"].partition("@")[0]
        for row in every
        if row["tokens"] is not None and row["tokens_in_all"] is None
    )
    return [*dict.fromkeys(names)]


def _chosen(columns: Sequence[Column], tasks: Sequence[str]) -> list[Column]:
    """Return the columns of these tasks, by title or task; all if none are named."""
    names = [name for title, task, _ in columns for name in (title, task)]
    for task in tasks:
        if task not in names:
            raise ConfigError(f"--task: no figure of {task!r}; {nearest(task, names)}")
    return [column for column in columns if not tasks or column[0] in tasks or column[1] in tasks]


def _comparable(points: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[Row]], int]:
    """Return the points that were asked as the last one was, and how many were not."""
    every = [row for rows in points.values() for row in rows]
    asked = max(every, key=lambda row: row["finished"])["task_sha256"] if every else None
    same = {
        name: [row for row in rows if row["task_sha256"] == asked] for name, rows in points.items()
    }
    return same, len(every) - sum(map(len, same.values()))


def _curves(
    recipe: str, rows: Sequence[Row], graphs: Sequence[Graph], *, in_loop: bool
) -> list[Curve]:
    """Return a curve per run in the order in which they begin, its points by step.

    An exported model and the checkpoint of its step are one point.
    """
    runs: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        if row["run"] is not None and row["step"] is not None and row["tokens"] is not None:
            asset = row["model"].partition("@")[0]
            runs.setdefault((asset, row["run"]), {})[row["step"]] = row
    whose = f"{recipe} " if len(graphs) > 1 else ""
    curves: list[Curve] = []
    for (asset, _), steps in sorted(runs.items()):
        points = [steps[step] for step in sorted(steps)]
        curves.append(
            Curve(
                name=f"{whose}{asset}",
                tokens=[_place(row) for row in points],
                values=[row["value"] for row in points],
                errors=[row["stderr"] for row in points],
                in_loop=in_loop,
            )
        )
    return sorted(curves, key=lambda curve: curve.tokens[0])


def _place(row: Row) -> int:
    """Return the tokens at which a figure is drawn."""
    return row["tokens"] if row["tokens_in_all"] is None else row["tokens_in_all"]
