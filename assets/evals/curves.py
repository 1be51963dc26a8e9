"""The curves of a recipe's runs: figures of their checkpoints over the tokens behind them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.evals.board import columns_of, evaluations
from assets.evals.figures import figures
from assets.graph import Graph
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.evals.columns import Column
from olmo_core.evals.store.read import Results
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
    data, sample) is left out, with a note.

    Args:
        graphs: Of the recipes.
        results: The store.
        root: The folder of all results.
        tasks: By name; none: each column of the leaderboard.

    Raises:
        ConfigError: no checkpoint of the recipes has a figure of a task; names those that have.
    """
    chosen: dict[str, list[str]] = {}
    notes: list[str] = []
    for graph in graphs:
        found, said = evaluations(graph, results, root, checkpoints=True)
        chosen[graph.recipe.name] = found
        notes += said
    wanted = _chosen(columns_of(graphs, results, chosen), tasks)
    shown = [(task, metric) for _, task, metric in wanted]
    points: dict[tuple[str, str], dict[str, list[Row]]] = {key: {} for key in shown}
    left, no_numbers = 0, 0
    for name, ids in chosen.items():
        for row in figures(results, ids, shown):
            if math.isfinite(row["value"]):
                points[row["task"], row["metric"]].setdefault(name, []).append(row)
            else:
                no_numbers += 1
    panels: list[Panel] = []
    for title, task, metric in wanted:
        same, others = _comparable(points[task, metric])
        left += others
        curves = [curve for name, found in same.items() for curve in _curves(name, found, graphs)]
        if curves:
            panels.append(Panel(title=title, label=metric, curves=curves))
    if left:
        notes.append(
            f"{left} figures are left out: they were asked otherwise (prompts, data or sample) "
            "than the last of their task; olmo sweep evaluates the checkpoints anew"
        )
    if no_numbers:
        notes.append(f"{no_numbers} figures are left out: their values are no finite numbers")
    if unknown := _of_unknown_origin(points.values()):
        notes.append(
            f"{', '.join(unknown)}: drawn over the tokens of the run alone; those of the model "
            "that it began from are not known"
        )
    return Curves(panels=panels, notes=notes)


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


def _curves(recipe: str, rows: Sequence[Row], graphs: Sequence[Graph]) -> list[Curve]:
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
            )
        )
    return sorted(curves, key=lambda curve: curve.tokens[0])


def _place(row: Row) -> int:
    """Return the tokens at which a figure is drawn."""
    return row["tokens"] if row["tokens_in_all"] is None else row["tokens_in_all"]
