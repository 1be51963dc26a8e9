"""Make what is missing or stale in a Dagster run of this process."""

import itertools
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import dagster as dg
from rich.console import Console

from assets.execution.step import cancel_jobs
from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.launcher import Observer
from assets.paths import root
from assets.reporting.observe import Both, DagsterObserver
from assets.reuse import own_jobs
from pipelines.cli.reported import log_state, remember, reported_as
from pipelines.cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, TerminalObserver, plain
from pipelines.definitions import assembled, main_line
from pipelines.instance import (
    close_orphaned_runs,
    open_instance,
    own_tags,
    show_on_timeline,
    storage_errors,
)
from pipelines.launchers.router import site_launcher


def make_missing(
    console: Console, graph: Graph, selected: Sequence[str], forced: set[str]
) -> tuple[int, list[str] | None]:
    """Make the selected assets that are missing, stale or forced, as often as their inputs change.

    Returns:
        The exit code, and the assets whose jobs were started; None where no run was needed.

    Raises:
        StorageError: the disk is full, or the root cannot be written.
    """
    launched: list[str] | None = None
    with storage_errors(), open_instance() as instance:
        close_orphaned_runs(instance)
        state = log_state()
        wanted = to_make(graph, root(), instance, selected, forced)
        while wanted:
            observer = TerminalObserver(console, len(wanted))
            code = _run_once(graph, instance, wanted, forced, observer)
            launched = [*(launched or ()), *observer.launched]
            if code:
                return code, launched
            # An input that was made again may hold other bits than before (`--force`): what read
            # the old ones follows in a second pass.
            made, forced = wanted, set[str]()
            state = log_state()
            wanted = to_make(graph, root(), instance, selected, forced)
            if wanted == made:
                raise RuntimeError(f"made, and still to be made: {', '.join(wanted)}")
        remember(graph, selected, state)
    return 0, launched


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

    def observed(context: dg.AssetExecutionContext) -> Observer:
        show_on_timeline(instance, context.run.run_id)
        return Both(observer, DagsterObserver(context))

    def execute() -> dg.ExecuteInProcessResult:
        definitions = assembled(
            main_line(graph),
            launcher=launcher,
            observer=observed,
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
    if shown is None:
        return False
    said = shown.metadata.get("accepted")
    known = [(shown.tags or {}).get("dagster/data_version"), str(said.value) if said else None]
    return known == reported_as(identity)


def _print_failures(console: Console, events: Sequence[dg.DagsterEvent]) -> None:
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                what = f"check {check.check_name}: {check.description}"
                console.print(f"[red]✗[/] {check.asset_key.path[-1]}: {plain(what)}")
        elif event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            message = error.message.strip() if error is not None else "no message"
            if "DagsterAssetCheckFailedError" in message:
                continue  # the check itself has been printed
            message = re.sub(r"^assets\.[\w.]+: ", "", message)
            console.print(f"[red]✗[/] {plain(message)}")
