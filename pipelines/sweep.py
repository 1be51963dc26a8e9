"""`olmo sweep`: the evaluations that checkpoints lack, queued together: one array where Slurm runs.

The sensor and the schedule queue theirs the same way; the runs that they request only follow.
"""

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP, checkpoints, sweep_work
from assets.graph import Graph
from assets.launcher import EngineError, Launch, Launcher
from assets.paths import root
from assets.produce import CodeChanged, InputMissing, launch_of
from assets.recipe import load_recipe
from pipelines.launchers.router import site_launcher

EXIT_REFUSED = 1


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """The evaluations that a recipe's checkpoints lack."""

    launches: Sequence[Launch]
    finished: int  # that are there
    refused: Mapping[str, str]  # evaluation and checkpoint -> why it cannot be launched


def lacking(graph: Graph, root: Path, keys: Collection[str]) -> Lacking:
    """What is to be launched so that these checkpoints have every evaluation of the sweep."""
    launches: list[Launch] = []
    refused: dict[str, str] = {}
    finished = 0
    found = checkpoints(graph, root)
    for key in keys:
        for name in SWEEP:
            try:
                work = sweep_work(graph, name, key, root, found)
                if work.finished() is not None:
                    finished += 1
                else:
                    launches.append(launch_of(work, root))
            except (CodeChanged, InputMissing) as error:
                refused[f"{name} {key}"] = str(error)
    return Lacking(launches=launches, finished=finished, refused=refused)


def queue_together(
    graph: Graph, launcher: Launcher, keys: Collection[str], log: logging.Logger
) -> None:
    """Queue what these checkpoints lack before the runs that follow it are requested.

    Where the engine has no queue, or does not answer, each run submits its own job.
    """
    launches = [entry for entry in lacking(graph, root(), keys).launches if launcher.queues(entry)]
    if launches:
        try:
            started = launcher.submit_many(launches)
        except EngineError as error:
            log.warning(f"not queued together: {error}")
        else:
            log.info(f"queued {len(started)} evaluations of {len(keys)} checkpoints")


def sweep_recipe(recipe: str, *, dry_run: bool) -> int:
    """Queue every evaluation that is lacking; returns the exit code.

    Raises:
        ConfigError: unknown or malformed recipe, or a malformed site file.
        EngineError: an engine refuses the jobs, or does not answer.
    """
    graph = build_graph(load_recipe(recipe))
    launcher = site_launcher()
    keys = checkpoints(graph, root())
    found = lacking(graph, root(), keys)
    for name, why in found.refused.items():
        print(f"olmo: {name}: {why}", file=sys.stderr)
    waits = [launch for launch in found.launches if launcher.queues(launch)]
    if len(waits) < len(found.launches):
        print(
            f"olmo: {len(found.launches) - len(waits)} evaluations would all start at once, since "
            "the local engine has no queue; name another for `evals` in the site file, or have "
            f"Dagster run them one by one: {recipe}_nightly_sweep",
            file=sys.stderr,
        )
    print(f"{recipe}: {len(keys)} checkpoints, {found.finished} evaluations finished before")
    if dry_run:
        print(f"would be queued: {len(waits)}")
        for launch in waits:
            print(f"  {launch.identity['asset']} {launch.identity['partition']}")
    else:
        started = launcher.submit_many(waits)
        print(f"queued: {len(started)}, at work already: {len(waits) - len(started)}")
        for line in _jobs(started):
            print(f"  {line}")
    return EXIT_REFUSED if found.refused or len(waits) < len(found.launches) else 0


def _jobs(started: Sequence[Launch]) -> list[str]:
    """One line per job of an engine's, the tasks of an array together."""
    tasks: dict[str, int] = {}
    for launch in started:
        record = launch.folder.read(launch.folder.launch) or {}
        job = f"{record.get('engine')} job {str(record.get('job_id')).partition('_')[0]}"
        line = f"{job}: {launch.identity['asset']}"
        tasks[line] = tasks.get(line, 0) + 1
    return [f"{line}, {count} tasks" if count > 1 else line for line, count in tasks.items()]
