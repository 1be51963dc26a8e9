"""A nightly sweep over the checkpoints that have not been evaluated as the recipe stands."""

from collections.abc import Iterator

import dagster as dg

from assets.evals.sweep import checkpoints, partitions_name
from assets.graph import Graph
from assets.launcher import Launcher
from assets.paths import root
from pipelines.sweep import queue_together

EVERY_NIGHT = "0 3 * * *"


def sweep_schedule(graph: Graph, job_name: str) -> dg.ScheduleDefinition:
    """Return `<recipe>_nightly_sweep`: it evaluates each checkpoint that lacks an evaluation."""
    recipe = graph.recipe.name

    @dg.schedule(
        name=f"{recipe}_nightly_sweep",
        cron_schedule=EVERY_NIGHT,
        job_name=job_name,
        description=f"Evaluates what is missing or stale of {recipe}'s checkpoints.",
    )
    def sweep(
        context: dg.ScheduleEvaluationContext, launcher: dg.ResourceParam[Launcher]
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        lacking = queue_together(graph, launcher, checkpoints(graph, root()), context.log)
        if not lacking:
            yield dg.SkipReason("every checkpoint has been evaluated")
            return
        context.instance.add_dynamic_partitions(partitions_name(recipe), lacking)
        night = context.scheduled_execution_time.isoformat()
        for key in lacking:  # Dagster wants a key of each of several requests
            yield dg.RunRequest(run_key=f"{night} {key}", partition_key=key)

    return sweep
