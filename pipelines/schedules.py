"""A nightly sweep over the checkpoints that have not been evaluated as the recipe stands."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg

from assets.evals.sweep import SWEEP, checkpoints, partitions_name, sweep_work
from assets.graph import Graph
from assets.launcher import Launcher
from assets.paths import root
from pipelines.sweep import queue_together

EVERY_NIGHT = "0 3 * * *"


def sweep_schedule(graph: Graph, job_name: str) -> dg.ScheduleDefinition:
    """`<recipe>_nightly_sweep`: requests an evaluation for each checkpoint that lacks one."""
    recipe = graph.recipe.name

    @dg.schedule(
        name=f"{recipe}_nightly_sweep",
        cron_schedule=EVERY_NIGHT,
        job_name=job_name,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Evaluates what is missing or stale of {recipe}'s checkpoints.",
    )
    def sweep(
        context: dg.ScheduleEvaluationContext, launcher: dg.ResourceParam[Launcher]
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        found = checkpoints(graph, root())
        lacking = [key for key in found if not is_evaluated(graph, key, found)]
        if not lacking:
            yield dg.SkipReason("every checkpoint has been evaluated")
            return
        queue_together(graph, launcher, lacking, context.log)
        context.instance.add_dynamic_partitions(partitions_name(recipe), lacking)
        night = context.scheduled_execution_time.isoformat()
        for key in lacking:  # Dagster wants a key of each of several requests
            yield dg.RunRequest(run_key=f"{night} {key}", partition_key=key)

    return sweep


def is_evaluated(graph: Graph, key: str, found: Mapping[str, Path]) -> bool:
    """Whether each evaluation of the sweep has a finished run for this one of the checkpoints."""
    works = [sweep_work(graph, name, key, root(), found) for name in SWEEP]
    return all(work.finished() is not None for work in works)
