"""`olmo run`: what is missing or stale, made in one Dagster run of this process, per variant."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assets.assemble import build_graph
from assets.graph import Graph
from assets.paths import root
from assets.recipe import load_recipe
from assets.reuse import reused_from
from assets.variant import variants_of
from olmo_core.errors import ConfigError
from pipelines.cli.cost import require_affordable
from pipelines.cli.reported import nothing_to_do
from pipelines.cli.show import print_doubts, print_models
from pipelines.cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, table, terminal

FIGURES = ("start s", "work s", "peak MiB")


def run_recipe(name: str, select: Sequence[str], *, force: bool) -> int:
    """Make the selected assets of a recipe (all by default); return the exit code.

    Raises:
        ConfigError: unknown recipe or asset, or a recipe that is malformed.
        StorageError: the disk is full, or the root cannot be written.
    """
    graph = build_graph(load_recipe(name))
    print_doubts(terminal(), graph.recipe)
    return run_graph(graph, select, force=force)


def run_variants(
    recipe: str, settings: Sequence[str], name: str | None, select: Sequence[str], *, force: bool
) -> int:
    """Save the variants that the settings describe and run each; returns the first bad exit code.

    Raises:
        ConfigError: a setting or the name is refused; then nothing is saved and nothing starts.
        StorageError: the disk is full, or the root cannot be written.
    """
    if name is None:
        raise ConfigError(
            f"--set without --as: a variant is saved as a recipe; name it, as in --as {recipe}_2"
        )
    if not settings:
        raise ConfigError(
            f"--as {name}: nothing differs from {recipe}; say what does, as in "
            "--set stage1.optimizer.learning_rate=2e-3"
        )
    variants = variants_of(recipe, settings, name)
    for variant in variants:
        build_graph(variant.recipe()).select(select)
    console = terminal()
    for variant in variants:
        values = ", ".join(variant.settings)
        console.print(f"{variant.name}: {recipe} with {values} ({variant.save()})", markup=False)
    codes: dict[str, int] = {}
    for variant in variants:
        if len(variants) > 1:
            console.print(f"\n{variant.name}: {', '.join(variant.settings)}", markup=False)
        codes[variant.name] = run_recipe(variant.name, select, force=force)
        if codes[variant.name] == EXIT_INTERRUPTED:
            return EXIT_INTERRUPTED
    failed = [made for made, code in codes.items() if code]
    if failed and len(variants) > 1:
        console.print(f"[red]✗[/] not made: {', '.join(failed)}")
    return codes[failed[0]] if failed else 0


def run_graph(graph: Graph, select: Sequence[str], *, force: bool) -> int:
    """Do what `run_recipe` does for a graph that has been built.

    Raises:
        Refused: it would exceed the recipe's budget.
    """
    began = time.time()
    console = terminal()
    selected = graph.select(select or graph.nodes)
    launched: Sequence[str] | None = None
    if force or not nothing_to_do(graph, selected):
        require_affordable(graph, select, force=force)
        from pipelines.cli.execute import make_missing  # 3 s: Dagster

        forced = set(select or graph.nodes) if force else set[str]()
        code, launched = make_missing(console, graph, selected, forced)
        if code:
            return code
    if launched is None:
        console.print(
            f"{graph.recipe.name}: all {len(selected)} assets are finished and nothing has "
            "changed; no run was started."
        )
    print_summary(console, graph, root(), selected, made=launched or (), began=began)
    return _failed_checks(console, graph, selected)


def _failed_checks(console: Console, graph: Graph, selected: Sequence[str]) -> int:
    """Print the failed checks of finished assets; return the exit code that they make."""
    failed = {name: why for name in selected if (why := graph.failed_check(root(), name))}
    for name, why in failed.items():
        console.print(f"[red]✗[/] {name}: {why}")
    return EXIT_FAILED if failed else 0


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
