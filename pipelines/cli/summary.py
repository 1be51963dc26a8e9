"""What `olmo run` says at the end: the models' table, what it cost, where it lies."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets.graph import Graph
from assets.reuse import reused_from
from pipelines.cli.show import print_models
from pipelines.cli.terminal import table

FIGURES = ("start s", "work s", "peak MiB")


def print_summary(
    console: Console,
    graph: Graph,
    root: Path,
    selected: Sequence[str],
    *,
    made: Sequence[str] = (),
    began: float | None = None,
) -> None:
    """Print the summary of the selected assets; times only of those made just now."""
    if made and began is not None:
        console.print(_costs(graph, root, made, time.time() - began))
    if "leaderboard" in selected:
        print_models(console, graph, root)
    name = graph.recipe.name
    for origin, assets in _reused(graph, root, selected).items():
        console.print(f"Reused from {origin}: {', '.join(assets)}", markup=False)
    console.print(f"Results: {root / name}")
    console.print(
        "Next: `make ui` (graph, runs, plots, lineage) · "
        f"`olmo show {name}` · `olmo leaderboard {name}` · `olmo plan {name}` after a change"
    )


def _reused(graph: Graph, root: Path, selected: Sequence[str]) -> dict[str, list[str]]:
    """Return which of the selected assets others have made, by recipe or shared root."""
    found: dict[str, list[str]] = {}
    for name in selected:
        run = graph.finished(root, name)
        origin = reused_from(run, root, graph.recipe.name) if run is not None else None
        if origin is not None:
            found.setdefault(origin, []).append(name)
    return found


def _costs(graph: Graph, root: Path, made: Sequence[str], wall_seconds: float) -> Table:
    runs = {name: run for name in made if (run := graph.finished(root, name)) is not None}
    results = {name: run.read_result() for name, run in runs.items()}
    starts = sum(result["start_seconds"] for result in results.values())
    work = sum(result["work_seconds"] for result in results.values())
    peak = max((result["peak_memory_bytes"] for result in results.values()), default=0)
    total = {"start_seconds": starts, "work_seconds": work, "peak_memory_bytes": peak}
    rows = [_row(name, result) for name, result in results.items()]
    costs = table(("asset", *FIGURES), rows, right=FIGURES, title="What it took")
    costs.add_row(*_row("all jobs", total))
    # Whatever is not the work of a job: Dagster, the definitions, waiting for a process to end.
    dagster = wall_seconds - starts - work
    if dagster < 0:  # an engine with a queue: it cannot be told what was waited for
        costs.add_row(f"wall {wall_seconds:.1f} s: jobs waited and ran side by side")
        return costs
    share = (starts + dagster) / wall_seconds
    costs.add_row("Dagster and this command", f"{dagster:.1f}")
    costs.add_row(f"wall {wall_seconds:.1f} s, of which starts {share:.0%}")
    return costs


def _row(name: str, costs: Mapping[str, Any]) -> list[str]:
    seconds = [f"{costs[key]:.1f}" for key in ("start_seconds", "work_seconds")]
    return [name, *seconds, f"{costs['peak_memory_bytes'] / 2**20:,.0f}"]
