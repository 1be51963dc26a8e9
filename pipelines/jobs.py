"""The jobs of a recipe: its main line, its evaluations, and the sweep over its checkpoints."""

from collections.abc import Iterable

import dagster as dg

from assets.evals.sweep import SWEEP, sweep_node
from assets.execution.materialise import build_asset
from assets.graph import Graph
from pipelines.schedules import sweep_schedule
from pipelines.sensors import checkpoint_sensor, orphan_sensor

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
    return dg.Definitions.merge(
        _job(name, f"{name}_evaluate", EVALUATIONS, f"The evaluations of {name}'s models."),
        _job(name, sweep, SWEEP, f"The evaluations of checkpoints of {name}'s runs."),
        dg.Definitions(
            assets=[build_asset(graph, sweep_node(graph, asset)) for asset in SWEEP],
            sensors=[checkpoint_sensor(graph), orphan_sensor(graph)],
            schedules=[sweep_schedule(graph, sweep)],
        ),
    )


def _job(recipe: str, name: str, assets: Iterable[str], description: str) -> dg.Definitions:
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*([recipe, asset] for asset in assets)),
        description=description,
        tags={"recipe": recipe},
    )
    return dg.Definitions(jobs=[job])
