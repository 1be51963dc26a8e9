"""`olmo launch`, `olmo sweep`: jobs as they would be submitted, or submitted and left alone."""

import collections
import sys
from collections.abc import Sequence
from dataclasses import replace

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP, checkpoints, sweep_work
from assets.execution.hold import results_held
from assets.execution.produce import AssetBuild, launch_of, main_line_work
from assets.graph import Graph
from assets.launcher import Launch, Refused
from assets.paths import root
from assets.recipe import load_recipe
from assets.reuse import reused_from
from olmo_core.errors import ConfigError, listed
from pipelines.cli.cost_sweep import require_affordable_sweep
from pipelines.cli.jobs import require_asset
from pipelines.cli.sweep_here import make_here
from pipelines.launchers.router import Router, site_launcher
from pipelines.site.file import ResourceSpec
from pipelines.sweep import Lacking, lacking, wanted_assets

EXIT_REFUSED = 1


def launch_asset(
    recipe: str, asset: str, partition: str | None, *, dry_run: bool, force: bool
) -> int:
    """Submit the job of one asset, or show it; return the exit code.

    Raises:
        ConfigError: unknown recipe, asset or partition, or a malformed recipe or site file.
        Refused: an input is missing, damaged or fails a check.
    """
    work = work_named(require_asset(recipe, asset), asset, partition)
    launcher = site_launcher()
    if dry_run:
        print_dry_run(launcher, work)
        return 0
    with results_held(root()):
        finished = None if force else work.finished()
        if finished is not None:
            origin = reused_from(finished, root(), recipe)
            whose = f" (reused from {origin})" if origin else ""
            print(f"{asset}: finished before{whose}; {finished.path}")
            return 0
        launch = launch_of(work, root(), own_folder=force)
        how = "submitted" if launcher.submit([launch]) else "at work already"
    state = launcher.state(launch.folder).description
    print(f"{asset}: {how}; {_job(launch)}" + (f" ({state})" if state else ""))
    print(f"folder: {launch.folder.path}")
    print(f"follow: olmo jobs {recipe} · olmo logs {recipe} {asset} --follow")
    return 0


def sweep_recipe(
    recipe: str,
    *,
    every: int = 1,
    runs: Sequence[str] = (),
    evaluations: Sequence[str] = (),
    dry_run: bool,
) -> int:
    """Queue every evaluation that is lacking, or make them here; return the exit code.

    Where the engine has no queue they are made one after another, and this waits for them, and for
    those of checkpoints that appear meanwhile.

    Args:
        recipe: Its name.
        every: Of each run, only checkpoints at multiples of so many steps.
        runs: Only checkpoints of these trainings; all by default.
        evaluations: Only these of the recipe's evaluations; all by default.
        dry_run: Only say what would be done.

    Raises:
        ConfigError: unknown or malformed recipe, run or evaluation, or a malformed site file.
        Refused: what one of them reads has been damaged meanwhile; or all of them together would
            exceed the recipe's budget, and nothing is submitted.
        EngineError: an engine refuses the jobs, or does not answer.
    """
    graph = build_graph(load_recipe(recipe))
    names = wanted_assets(graph, evaluations, runs)
    launcher = site_launcher()
    unfit: dict[str, str] = {}
    begun: set[str] = set()

    def look() -> Lacking:
        swept = checkpoints(graph, root()).wanted(every=every, runs=runs)
        found = lacking(graph, root(), swept, names=names)
        said = {name: f"not scored: {'; '.join(why)}" for name, why in found.not_scored.items()}
        refused = {name: why for name, why in found.refused.items() if name not in begun}
        for name, why in {**swept.damaged, **refused, **said}.items():
            if name not in unfit:
                print(f"olmo: {name}: {why}", file=sys.stderr)
            unfit[name] = why
        begun.update(f"{work.node.name} {work.partition}" for work in found.works)
        return found

    found = look()
    waits, here = found.waiting(launcher), found.without_queue(launcher)
    print(
        f"{recipe}: {found.checkpoints} checkpoints, {found.finished} evaluations finished before"
    )
    if dry_run:
        for what, works in (("queued", waits), ("made here, one after another", here)):
            print(f"would be {what}: {len(works)}")
            for work in works:
                print(f"  {work.node.name} {work.partition}")
        return EXIT_REFUSED if unfit else 0
    require_affordable_sweep(graph, found, launcher)
    with results_held(root()):
        started = launcher.submit([launch_of(work, root()) for work in waits])
    print(f"queued: {len(started)}, at work already: {len(waits) - len(started)}")
    for line in _jobs(started):
        print(f"  {line}")
    if here:
        print(f"made here, one after another: {len(here)}", flush=True)
    failed = make_here(launcher, here, lambda: look().without_queue(launcher))
    if failed:
        print(f"olmo: without a result: {len(failed)}: {listed(failed)}", file=sys.stderr)
    return EXIT_REFUSED if unfit or failed else 0


def work_named(graph: Graph, asset: str, partition: str | None) -> AssetBuild:
    """Return what making an asset means now: of the main line, or of a sweep with its partition.

    Raises:
        ConfigError: the partition is unknown, missing, or one too many.
    """
    if asset in SWEEP:
        if partition is None:
            raise ConfigError(f"{asset}: --partition missing; expected <run>@step<N>")
        try:
            return sweep_work(graph, asset, partition, root())
        except Refused as error:
            raise ConfigError(str(error)) from None
    if partition is not None:
        raise ConfigError(f"{asset}: --partition given, but this asset has no partitions")
    return main_line_work(graph, asset, root())


def print_dry_run(launcher: Router, work: AssetBuild) -> None:
    """Print what would be submitted: on standard output that alone, the rest beside it."""
    missing = ""
    try:
        launch = launch_of(work, root(), own_folder=True)
    except Refused as error:
        missing = str(error)
        # What is submitted says nothing of the inputs: they stand in config.yaml.
        node = replace(work.node, render=None)
        work = replace(work, node=node, inputs=lambda progress: {})
        launch = launch_of(work, root(), own_folder=True)
    shape = launcher.site.work_of(launch)
    print(f"# {work.node.recipe}/{work.node.name}: {shape_line(shape)}", file=sys.stderr)
    print(f"# folder: {launch.folder.path}", file=sys.stderr)
    if missing:
        print(f"# a launch would be refused now: {missing}", file=sys.stderr)
    sys.stderr.flush()
    print(launcher.dry_run(launch).rstrip("\n"))


def shape_line(shape: ResourceSpec) -> str:
    """Return the engine and the shape of a job in one line."""
    nodes, ranks = shape.nodes, shape.processes_per_node
    each = " per node" if nodes > 1 or ranks > 1 else ""
    parts = [f"engine {shape.engine}", _count(nodes, "node"), _count(ranks, "process", "es") + each]
    if shape.workers:
        parts.append(_count(shape.workers, "worker"))
    if shape.devices_per_node:
        parts.append(f"{shape.devices_per_node} devices per node")
    if shape.cpus_per_node is not None:
        parts.append(f"{_count(shape.cpus_per_node, 'core')} per node")
    if shape.memory_gib_per_node is not None:
        parts.append(f"{shape.memory_gib_per_node} GiB per node")
    if shape.time_limit_minutes is not None:
        parts.append(f"at most {shape.time_limit_minutes:,} minutes")
    return ", ".join(parts)


def _count(number: int, word: str, ending: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else ending}"


def _job(launch: Launch) -> str:
    record = launch.folder.read(launch.folder.launch) or {}
    return f"{record.get('engine')} job {record.get('job_id')}"


def _jobs(started: Sequence[Launch]) -> list[str]:
    """Return one line per job of an engine's, the tasks of an array together."""
    of_task = ((_job(launch).partition("_")[0], launch.identity["asset"]) for launch in started)
    tasks = collections.Counter(f"{job}: {asset}" for job, asset in of_task)
    return [f"{line}, {count} tasks" if count > 1 else line for line, count in tasks.items()]
