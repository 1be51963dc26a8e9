"""`olmo run`: what is missing or stale, made in one Dagster run of this process, per variant."""

import itertools
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from assets.assemble import build_graph
from assets.execution.step import cancel_jobs
from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.observe import Both, DagsterObserver
from assets.reuse import own_jobs, reused_from
from assets.variant import variants_of
from olmo_core.errors import ConfigError
from pipelines.cli.show import print_doubts, print_models
from pipelines.cli.terminal import TerminalObserver, table, terminal
from pipelines.definitions import assembled, main_line
from pipelines.instance import close_orphaned_runs, open_instance, own_tags, storage_errors
from pipelines.launchers.router import site_launcher

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # as a shell has it
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
    """Do what `run_recipe` does for a graph that has been built."""
    began = time.time()
    console = terminal()
    selected = graph.select(select or graph.nodes)
    with storage_errors(), open_instance() as instance:
        close_orphaned_runs(instance)
        forced = set(select or graph.nodes) if force else set[str]()
        wanted = to_make(graph, root(), instance, selected, forced)
        if not wanted:
            console.print(
                f"{graph.recipe.name}: all {len(selected)} assets are finished and nothing has "
                "changed; no run was started."
            )
            print_summary(console, graph, root(), selected)
            return _failed_checks(console, graph, selected)
        launched: list[str] = []
        while wanted:
            observer = TerminalObserver(console, len(wanted))
            code = _run_once(graph, instance, wanted, forced, observer)
            if code:
                return code
            launched += observer.launched
            # An input that was made again may hold other bits than before (`--force`): what read
            # the old ones follows in a second pass.
            made, forced = wanted, set[str]()
            wanted = to_make(graph, root(), instance, selected, forced)
            if wanted == made:
                raise RuntimeError(f"made, and still to be made: {', '.join(wanted)}")
    print_summary(console, graph, root(), selected, made=launched, began=began)
    return _failed_checks(console, graph, selected)


def _failed_checks(console: Console, graph: Graph, selected: Sequence[str]) -> int:
    """Print the failed checks of finished assets; return the exit code that they make."""
    failed = {name: why for name in selected if (why := graph.failed_check(root(), name))}
    for name, why in failed.items():
        console.print(f"[red]✗[/] {name}: {why}")
    return EXIT_FAILED if failed else 0


def _run_once(
    graph: Graph,
    instance: dg.DagsterInstance,
    wanted: Sequence[str],
    forced: set[str],
    observer: TerminalObserver,
) -> int:
    """Make the wanted assets in one Dagster run; return the exit code."""
    launcher = site_launcher()
    keys = {asset: dg.AssetKey(graph.nodes[asset].key) for asset in wanted}
    forcing = {
        keys[asset].to_python_identifier(): {"config": {"force": True}}
        for asset in wanted
        if asset in forced
    }

    def execute() -> dg.ExecuteInProcessResult:
        definitions = assembled(
            main_line(graph),
            launcher=launcher,
            observer=lambda context: Both(observer, DagsterObserver(context)),
        )
        return definitions.resolve_job_def(graph.recipe.name).execute_in_process(
            instance=instance,
            asset_selection=[*keys.values()],
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "ops": forcing,
            },
            tags=own_tags(),
            raise_on_error=False,
        )

    with observer.bars, ThreadPoolExecutor(1) as executor:
        # In a thread, since Dagster would take SIGINT and SIGTERM over and treat them alike: here
        # Ctrl-C ends the jobs, and a SIGTERM this process alone.
        execution = executor.submit(execute)
        try:
            result = execution.result()
        except KeyboardInterrupt:
            observer.console.print("Ctrl-C: ending the job; what is whole is kept")
            launcher.close()
            folders = [own_jobs(graph.folder(root(), asset), root()) for asset in wanted]
            cancel_jobs(launcher, itertools.chain(*folders))
            # Ends the step also where it follows another recipe's job, which goes on.
            at_work = dg.RunsFilter(tags=own_tags(), statuses=[dg.DagsterRunStatus.STARTED])
            for run in instance.get_runs(at_work):
                instance.report_run_canceling(run)
            wait([execution])
            return EXIT_INTERRUPTED
    if result.success:
        return 0
    _print_failures(observer.console, result.all_events)
    return EXIT_FAILED


def to_make(
    graph: Graph,
    root: Path,
    instance: dg.DagsterInstance,
    selected: Sequence[str],
    forced: set[str],
) -> list[str]:
    """Return the selected assets that are not finished, or not known to Dagster as finished."""
    keys = {name: dg.AssetKey(graph.nodes[name].key) for name in selected}
    known = instance.get_latest_materialization_events(keys.values())  # one query for all
    return [
        name
        for name, key in keys.items()
        if name in forced
        or graph.finished(root, name) is None
        or not _is_reported(known.get(key), graph.fingerprints[name])
    ]


def _is_reported(event: dg.EventLogEntry | None, identity: Fingerprint) -> bool:
    """Return whether Dagster knows the asset as it counts now, and by whose word if accepted."""
    shown = event.asset_materialization if event is not None else None
    if shown is None or (shown.tags or {}).get("dagster/data_version") != identity.value:
        return False
    said = shown.metadata.get("accepted")
    return (str(said.value) if said else None) == (
        str(identity.accepted) if identity.accepted else None
    )


def _print_failures(console: Console, events: Sequence[dg.DagsterEvent]) -> None:
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                what = f"check {check.check_name}: {check.description}"
                console.print(f"[red]✗[/] {check.asset_key.path[-1]}: {what}")
        elif event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            message = error.message.strip() if error is not None else "no message"
            if "DagsterAssetCheckFailedError" in message:
                continue  # the check itself has been printed
            message = re.sub(r"^assets\.[\w.]+: ", "", message)
            console.print(f"[red]✗[/] {message}")


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
