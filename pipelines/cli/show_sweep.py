"""`olmo show RECIPE checkpoint_downstream`: what is known of each checkpoint's evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from assets.evals.sweep import checkpoints, not_scored, sweep_names, sweep_work
from assets.execution.produce import AssetBuild
from assets.graph import Graph
from assets.launcher import Refused
from assets.reporting.forecasts import figure_text
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.forecast.measured import beside
from olmo_core.run.folder import RunFolder
from pipelines.cli.terminal import table

MOST_FIGURES = 6  # columns of scores beside the state


def sweep_entries(graph: Graph, root: Path, name: str) -> list[dict[str, Any]]:
    """Return what is known of each checkpoint: its state, and the scores of what is finished.

    Raises:
        ConfigError: the recipe's sweep has no such asset.
    """
    if name not in sweep_names(graph):
        known = sweep_names(graph)
        raise ConfigError(
            f"recipe {graph.recipe.name} has no asset {name!r}; {nearest(name, known)}"
        )
    found = checkpoints(graph, root)
    entries = [
        {"asset": name, "partition": key, "state": "damaged", "why": why}
        for key, why in found.damaged.items()
    ]
    for key in found.whole:
        known = {"asset": name, "partition": key, "run": found.run_of(key)}
        try:
            entries.append({**known, **_state(sweep_work(graph, name, key, root, found))})
        except Refused as error:
            entries.append({**known, "state": "refused", "why": str(error)})
    return entries


def _state(work: AssetBuild) -> dict[str, Any]:
    """Return the state of one evaluation, where it lies and what it has found."""
    run = work.finished()
    if run is not None:
        result, lacks = run.read_result(), not_scored(run)
        return {
            "state": "not scored on all tasks" if lacks else "current",
            "why": "; ".join(lacks),
            "path": str(run.path),
            "fingerprint": result["fingerprint"],
            "metadata": result["report"]["numbers"],
            **({"forecast": rows} if (rows := beside(run)) else {}),
        }
    version = work.fingerprint.version
    if RunFolder(work.parent / version).is_running():
        return {"state": "at work", "path": str(work.parent / version)}
    stale = sorted(work.parent.glob("*/result.json"))
    why = "made before the recipe, the code or a package was changed" if stale else "never made"
    return {"state": "stale" if stale else "missing", "why": why}


def print_sweep(console: Console, entries: list[dict[str, Any]]) -> None:
    """Print one row per checkpoint, with the first of its scores, then why others have none."""
    if not entries:
        console.print("no checkpoint of the recipe as it stands")
        return
    figures = list(dict.fromkeys(name for entry in entries for name in _figures(entry)))
    shown = figures[:MOST_FIGURES]
    rows = [
        [
            entry["partition"],
            entry["state"],
            entry.get("run", ""),
            *(_cell(_figures(entry).get(name)) for name in shown),
        ]
        for entry in entries
    ]
    console.print(table(("checkpoint", "state", "run", *shown), rows, right=shown))
    if figures[MOST_FIGURES:]:
        console.print(f"and {len(figures) - MOST_FIGURES} more figures: --json, or rows.parquet")
    if taken := _taken(entries):
        console.print(taken)
    for entry in entries:
        if entry.get("why") and entry["state"] not in ("missing", "stale"):
            console.print(f"{entry['partition']}: {entry['why']}", markup=False)


def _taken(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return how long evaluations took beside what was forecast; empty if none was forecast."""
    known = [row for entry in entries for row in entry.get("forecast", ())]
    rows = [row for row in known if row["figure"] == "seconds" and row["forecast"] is not None]
    if not rows:
        return ""
    took, forecast = (sum(row[key] for row in rows) for key in ("measured", "forecast"))
    texts = figure_text("seconds", took), figure_text("seconds", forecast)
    return f"{len(rows)} evaluations took {texts[0]}, forecast {texts[1]}, from start to end each"


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores among the numbers of a report: `task metric`."""
    numbers = entry.get("metadata", {})
    return {name: value for name, value in numbers.items() if " " in name}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
