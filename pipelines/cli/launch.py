"""`olmo launch`: one asset's job, shown as it would be submitted, or submitted and left alone."""

import sys
from dataclasses import replace

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP, sweep_work
from assets.execution.produce import AssetBuild, launch_of, main_line_work
from assets.execution.whole import Refused
from assets.graph import Graph
from assets.launcher import Launch
from assets.paths import root
from assets.recipe import load_recipe
from assets.reuse import reused_from
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from pipelines import names
from pipelines.launchers.router import Router, site_launcher
from pipelines.site.file import ResourceSpec

EXIT_REFUSED = 1


def launch_asset(
    recipe: str, asset: str, partition: str | None, *, dry_run: bool, force: bool
) -> int:
    """Submit the job of one asset, or show it; returns the exit code.

    Raises:
        ConfigError: unknown recipe, asset or partition, or a malformed recipe or site file.
    """
    graph = build_graph(load_recipe(recipe))
    work = work_named(graph, asset, partition)
    launcher = site_launcher()
    if dry_run:
        print_dry_run(launcher, work)
        return 0
    finished = None if force else work.finished()
    if finished is not None:
        origin = reused_from(finished, root(), recipe)
        whose = f" (reused from {origin})" if origin else ""
        print(f"{asset}: finished before{whose}; {finished.path}")
        return 0
    try:
        launch = launch_of(work, root(), own_folder=force)
    except Refused as error:
        print(f"olmo: {error}", file=sys.stderr)
        return EXIT_REFUSED
    how = "submitted" if launcher.submit([launch]) else "at work already"
    print(f"{asset}: {how}; {described(launcher, launch)}")
    print(f"folder: {launch.folder.path}")
    print(f"follow: olmo jobs {recipe} · olmo logs {recipe} {asset} --follow")
    return 0


def work_named(graph: Graph, asset: str, partition: str | None) -> AssetBuild:
    """What making an asset means now: of the main line, or of a sweep with its partition.

    Raises:
        ConfigError: there is no such asset, or the partition is missing or one too many.
    """
    recipe = graph.recipe.name
    if asset in SWEEP:
        if partition is None:
            raise ConfigError(f"{asset}: --partition missing; expected <run>@step<N>")
        try:
            return sweep_work(graph, asset, partition, root())
        except Refused as error:
            raise ConfigError(str(error)) from None
    known = [*graph.nodes, *SWEEP]
    if asset not in graph.nodes:
        raise ConfigError(
            f"recipe {recipe} has no asset {names.shown(asset)}; {nearest(asset, known)}"
        )
    if partition is not None:
        raise ConfigError(f"{asset}: --partition given, but this asset has no partitions")
    return main_line_work(graph, asset, root())


def described(launcher: Router, launch: Launch) -> str:
    """The engine, its name for the job, and what it says of it."""
    record = launch.folder.read(launch.folder.launch) or {}
    state = launcher.state(launch.folder).description
    return f"{record.get('engine')} job {record.get('job_id')}" + (f" ({state})" if state else "")


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
    parts = [f"engine {shape.engine}"]
    parts.append("1 node" if nodes == 1 else f"{nodes} nodes")
    each = " per node" if nodes > 1 or ranks > 1 else ""
    parts.append("1 process" + each if ranks == 1 else f"{ranks} processes{each}")
    if shape.workers:
        parts.append("1 worker" if shape.workers == 1 else f"{shape.workers} workers")
    if shape.devices_per_node:
        parts.append(f"{shape.devices_per_node} devices per node")
    if shape.cpus_per_node is not None:
        cores = "core" if shape.cpus_per_node == 1 else "cores"
        parts.append(f"{shape.cpus_per_node} {cores} per node")
    if shape.memory_gib_per_node is not None:
        parts.append(f"{shape.memory_gib_per_node} GiB per node")
    if shape.time_limit_minutes is not None:
        parts.append(f"at most {shape.time_limit_minutes:,} minutes")
    return ", ".join(parts)
