"""The jobs of a recipe: its main line, its evaluations, and the sweep of checkpoints by night."""

from collections.abc import Iterable, Iterator

import dagster as dg

from assets.evals.sweep import checkpoints, sweep_names, sweep_node
from assets.execution.materialise import (
    build_asset,
    build_regression_check,
    build_sweep_check,
    check_keys,
)
from assets.execution.partitions import renew_partitions
from assets.execution.replay_check import build_replay_check, replay_check_key, trainings
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
    # Named one by one: replays, which cost what training costs, are none of them.
    checks = [key for node in graph.nodes.values() for key in check_keys(node)]
    assets = dg.AssetSelection.assets(*(node.key for node in graph.nodes.values()))
    return _job(name, name, assets.without_checks() | dg.AssetSelection.checks(*checks), says)


def replay_job(graph: Graph) -> dg.Definitions:
    """Return the check `replayed` of each training, and `<recipe>_replay`, which runs them all.

    They stand beside the main line, not in it: `olmo run` does not know them, and a run in the UI
    that makes the trainings passes over them.
    """
    name, nodes = graph.recipe.name, trainings(graph)
    says = f"Makes steps of {name}'s trainings again, and compares them."
    job = _job(
        name, f"{name}_replay", dg.AssetSelection.checks(*map(replay_check_key, nodes)), says
    )
    checks = [build_replay_check(graph, node) for node in nodes]
    return dg.Definitions.merge(dg.Definitions(asset_checks=checks), job)


def evaluation_jobs(graph: Graph) -> dg.Definitions:
    """Return `<recipe>_evaluate`: all models; `<recipe>_sweep`: checkpoints, one per partition."""
    name = graph.recipe.name
    sweep, of = f"{name}_sweep", f"The evaluations of {name}'s"
    evaluations = [asset for asset in EVALUATIONS if asset in graph.nodes]
    return dg.Definitions.merge(
        _job(name, f"{name}_evaluate", _assets(name, evaluations), f"{of} models."),
        _job(name, sweep, _assets(name, sweep_names(graph)), f"{of} runs' checkpoints."),
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


def _job(recipe: str, name: str, selection: dg.AssetSelection, description: str) -> dg.Definitions:
    job = dg.define_asset_job(
        name, selection=selection, description=description, tags={"recipe": recipe}
    )
    return dg.Definitions(jobs=[job])


def _assets(recipe: str, names: Iterable[str]) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*([recipe, name] for name in names))
