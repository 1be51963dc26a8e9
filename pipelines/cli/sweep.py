"""`olmo sweep`: queue the evaluations that checkpoints lack."""

import sys
from collections.abc import Sequence

from assets.assemble import build_graph
from assets.evals.sweep import checkpoints
from assets.execution.produce import launch_of
from assets.launcher import Launch
from assets.paths import root
from assets.recipe import load_recipe
from pipelines.launchers.router import site_launcher
from pipelines.sweep import lacking

EXIT_REFUSED = 1


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
    waits = found.waiting(launcher)
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
        for work in waits:
            print(f"  {work.node.name} {work.partition}")
    else:
        started = launcher.submit([launch_of(work, root()) for work in waits])
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
