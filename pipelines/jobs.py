"""The jobs of a recipe: its main line, its evaluations, and the sweep of checkpoints by night."""

from collections.abc import Iterable, Iterator

import dagster as dg

from assets.evals.sweep import checkpoints, sweep_names, sweep_node
from assets.execution.materialise import (
    build_asset,
    build_regression_check,
    build_sweep_check,
)
from assets.execution.partitions import renew_partitions
from assets.graph import Graph
from assets.launcher import Launcher
from assets.paths import root
from pipelines.requests import catching_up, sweep_requests
from pipelines.sensors import checkpoint_sensor, orphan_sensor
from pipelines.sweep import queue_together, queued

EVERY_NIGHT = "0 3 * * *"
EVALUATIONS = ("perplexity", "downstream", "leaderboard", "model_card")


def main_job(graph: Graph) -> dg.Definitions:
    """Return `<recipe>`: from raw text to the model card, in one run."""
    name = graph.recipe.name
    says = f"The main line of {name}: what is finished is reported again, not redone."
    return _job(name, name, graph.nodes, says)


def evaluation_jobs(graph: Graph) -> dg.Definitions:
    """Return `<recipe>_evaluate`: all models; `<recipe>_sweep`: checkpoints, one per partition."""
    name = graph.recipe.name
    sweep = f"{name}_sweep"
    evaluations = [asset for asset in EVALUATIONS if asset in graph.nodes]
    return dg.Definitions.merge(
        _job(name, f"{name}_evaluate", evaluations, f"The evaluations of {name}'s models."),
        _job(name, sweep, sweep_names(graph), f"The evaluations of checkpoints of {name}'s runs."),
        dg.Definitions(
            assets=[build_asset(graph, sweep_node(graph, asset)) for asset in sweep_names(graph)],
            asset_checks=[
                build(graph, asset)
                for asset in sweep_names(graph)
                for build in (build_sweep_check, build_regression_check)
            ],
            sensors=[checkpoint_sensor(graph), orphan_sensor(graph)],
            schedules=[sweep_schedule(graph, sweep)],
        ),
    )


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
        found = checkpoints(graph, root())
        lacking = queue_together(graph, launcher, found, found.whole, context.log)
        renew_partitions(context.instance, recipe, found, lacking)
        if not lacking:
            yield dg.SkipReason("every checkpoint has been evaluated")
            return
        if not queued(graph, launcher) and (run := catching_up(context.instance, recipe)):
            yield dg.SkipReason(f"run {run} makes what all checkpoints lack")
            return
        night = context.scheduled_execution_time.isoformat()
        yield from sweep_requests(graph, launcher, {key: f"{night} {key}" for key in lacking})

    return sweep


def _job(recipe: str, name: str, assets: Iterable[str], description: str) -> dg.Definitions:
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*([recipe, asset] for asset in assets)),
        description=description,
        tags={"recipe": recipe},
    )
    return dg.Definitions(jobs=[job])
