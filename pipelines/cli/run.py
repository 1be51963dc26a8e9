"""`olmo run`: what is missing or stale, made in one Dagster run of this process."""

import itertools
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import dagster as dg
from rich.console import Console

from assets.assemble import build_graph
from assets.execution.step import cancel_jobs
from assets.graph import Graph
from assets.launcher import Launcher
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.observe import Both, DagsterObserver
from assets.reuse import own_jobs
from pipelines.cli.show import print_doubts
from pipelines.cli.summary import print_summary
from pipelines.cli.terminal import TerminalObserver, terminal
from pipelines.definitions import assembled, main_line
from pipelines.instance import close_orphaned_runs, open_instance, own_tags, storage_errors
from pipelines.launchers.router import site_launcher
from pipelines.resources import resources

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # as a shell has it


def run_recipe(name: str, select: Sequence[str], *, force: bool) -> int:
    """Make the selected assets of a recipe (all by default); returns the exit code.

    Raises:
        ConfigError: unknown recipe or asset, or a recipe that is malformed.
        StorageError: the disk is full, or the root cannot be written.
    """
    graph = build_graph(load_recipe(name))
    print_doubts(terminal(), graph.recipe)
    return run_graph(graph, select, force=force)


def run_graph(graph: Graph, select: Sequence[str], *, force: bool) -> int:
    """As `run_recipe`, for a graph that has been built."""
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
                "changed; no run was started.",
                highlight=False,
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
    """Print the failed checks of finished assets; returns the exit code that they make."""
    failed = {name: why for name in selected if (why := graph.failed_check(root(), name))}
    for name, why in failed.items():
        console.print(f"[red]✗[/] {name}: {why}", highlight=False, soft_wrap=True)
    return EXIT_FAILED if failed else 0


def _run_once(
    graph: Graph,
    instance: dg.DagsterInstance,
    wanted: Sequence[str],
    forced: set[str],
    observer: TerminalObserver,
) -> int:
    """Make the wanted assets in one Dagster run; returns the exit code."""
    launcher = site_launcher()
    with observer.bars, ThreadPoolExecutor(1) as executor:
        # In a thread, since Dagster would take SIGINT and SIGTERM over and treat them alike: here
        # Ctrl-C ends the jobs, and a SIGTERM this process alone.
        execution = executor.submit(_execute, graph, instance, wanted, forced, launcher, observer)
        try:
            result = execution.result()
        except KeyboardInterrupt:
            observer.console.print("Ctrl-C: ending the job; what is whole is kept", highlight=False)
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
    """The selected assets that are not finished, or finished and not known to Dagster as such."""
    return [
        name
        for name in selected
        if name in forced
        or graph.finished(root, name) is None
        or not _is_reported(instance, graph, name)
    ]


def _is_reported(instance: dg.DagsterInstance, graph: Graph, name: str) -> bool:
    """Whether Dagster knows the asset as it counts now, and by whose word where it is accepted."""
    identity = graph.fingerprints[name]
    event = instance.get_latest_materialization_event(dg.AssetKey(graph.nodes[name].key))
    shown = event.asset_materialization if event is not None else None
    said = shown.metadata.get("accepted") if shown is not None else None
    return reported_version(instance, graph, name) == identity.value and (
        (said.value if said is not None else None)
        == (str(identity.accepted) if identity.accepted else None)
    )


def reported_version(instance: dg.DagsterInstance, graph: Graph, name: str) -> str | None:
    """The data version of the asset's latest materialisation in Dagster."""
    event = instance.get_latest_materialization_event(dg.AssetKey(graph.nodes[name].key))
    materialization = event.asset_materialization if event is not None else None
    if materialization is None or materialization.tags is None:
        return None
    return materialization.tags.get("dagster/data_version")


def _execute(
    graph: Graph,
    instance: dg.DagsterInstance,
    wanted: Sequence[str],
    forced: set[str],
    launcher: Launcher,
    observer: TerminalObserver,
) -> dg.ExecuteInProcessResult:
    name = graph.recipe.name
    shown = resources(
        launcher=launcher, observer=lambda context: Both(observer, DagsterObserver(context))
    )
    definitions = assembled(main_line(graph), with_resources=shown)
    return definitions.resolve_job_def(name).execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(graph.nodes[asset].key) for asset in wanted],
        run_config={
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            "ops": {
                graph.op_name(asset): {"config": {"force": True}}
                for asset in wanted
                if asset in forced
            },
        },
        tags=own_tags(),
        raise_on_error=False,
    )


def _print_failures(console: Console, events: Sequence[dg.DagsterEvent]) -> None:
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                console.print(
                    f"[red]✗[/] {check.asset_key.path[-1]}: check {check.check_name}: "
                    f"{check.description}",
                    highlight=False,
                    soft_wrap=True,
                )
        elif event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            message = error.message.strip() if error is not None else "no message"
            if "DagsterAssetCheckFailedError" in message:
                continue  # the check itself has been printed
            message = re.sub(r"^assets\.execution\.\w+\.\w+: ", "", message)
            console.print(f"[red]✗[/] {message}", highlight=False, soft_wrap=True)
