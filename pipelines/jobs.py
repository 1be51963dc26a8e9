"""The jobs of a recipe: its main line, its evaluations, and the sweep over its checkpoints."""

import dagster as dg

from assets.evals.sweep import SWEEP, sweep_node
from assets.execution.materialise import build_asset
from assets.graph import Graph
from pipelines.schedules import sweep_schedule
from pipelines.sensors import checkpoint_sensor, orphan_sensor

EVALUATIONS = ("perplexity", "downstream", "leaderboard", "model_card")


def main_job(graph: Graph) -> dg.Definitions:
    """`<recipe>`: from raw text to the model card, in one run."""
    name = graph.recipe.name
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*(node.key for node in graph.nodes.values())),
        description=f"The main line of {name}: what is finished is reported again, not redone.",
        tags={"recipe": name},
    )
    return dg.Definitions(jobs=[job])


def evaluation_jobs(graph: Graph) -> dg.Definitions:
    """`<recipe>_evaluate`: all models; `<recipe>_sweep`: checkpoints, one a partition."""
    name = graph.recipe.name
    evaluate = dg.define_asset_job(
        f"{name}_evaluate",
        selection=dg.AssetSelection.assets(*(graph.nodes[asset].key for asset in EVALUATIONS)),
        description=f"The evaluations of {name}'s models.",
        tags={"recipe": name},
    )
    sweep = dg.define_asset_job(
        f"{name}_sweep",
        selection=dg.AssetSelection.assets(*([name, asset] for asset in SWEEP)),
        description=f"The evaluations of checkpoints of {name}'s runs.",
        tags={"recipe": name},
    )
    return dg.Definitions(
        assets=[build_asset(graph, sweep_node(graph, asset)) for asset in SWEEP],
        jobs=[evaluate, sweep],
        sensors=[checkpoint_sensor(graph), orphan_sensor(graph)],
        schedules=[sweep_schedule(graph, sweep.name)],
    )
