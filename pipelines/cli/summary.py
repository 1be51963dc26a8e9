"""What `olmo run` says at the end: the models' table, what it cost, where it lies."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from assets.graph import Graph
from assets.reuse import reused_from
from pipelines.cli.show import print_models


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
        line = f"Reused from {origin}: {', '.join(assets)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Results: {root / name}", highlight=False, soft_wrap=True)
    console.print(
        "Next: `make ui` (graph, runs, plots, lineage) · "
        f"`olmo show {name}` · `olmo leaderboard {name}` · `olmo plan {name}` after a change",
        highlight=False,
        soft_wrap=True,
    )


def _reused(graph: Graph, root: Path, selected: Sequence[str]) -> dict[str, list[str]]:
    """What other recipes and shared roots have made of the selected assets."""
    found: dict[str, list[str]] = {}
    for name in selected:
        run = graph.finished(root, name)
        origin = reused_from(run, root, graph.recipe.name) if run is not None else None
        if origin is not None:
            found.setdefault(origin, []).append(name)
    return found


def _costs(graph: Graph, root: Path, made: Sequence[str], wall_seconds: float) -> Table:
    table = Table(title="What it took", title_justify="left", box=None, padding=(0, 2))
    for column in ("asset", "start s", "work s", "peak MiB"):
        table.add_column(column, justify="left" if column == "asset" else "right")
    starts = work = peak = 0.0
    for name in made:
        run = graph.finished(root, name)
        if run is None:
            continue
        result = run.read_result()
        table.add_row(
            name,
            f"{result['start_seconds']:.1f}",
            f"{result['work_seconds']:.1f}",
            f"{result['peak_memory_bytes'] / 2**20:,.0f}",
        )
        starts += result["start_seconds"]
        work += result["work_seconds"]
        peak = max(peak, result["peak_memory_bytes"])
    table.add_section()
    table.add_row("all jobs", f"{starts:.1f}", f"{work:.1f}", f"{peak / 2**20:,.0f}")
    # Whatever is not the work of a job: Dagster, the definitions, waiting for a process to end.
    dagster = wall_seconds - starts - work
    if dagster < 0:  # an engine with a queue: it cannot be told what was waited for
        table.add_row(f"wall {wall_seconds:.1f} s: jobs waited and ran side by side", "", "", "")
        return table
    share = (starts + dagster) / wall_seconds
    table.add_row("Dagster and this command", f"{dagster:.1f}", "", "")
    table.add_row(f"wall {wall_seconds:.1f} s, of which starts {share:.0%}", "", "", "")
    return table
