"""A sensor that finds new checkpoints while training runs and has each one evaluated."""

import dagster as dg

from assets.evals.sweep import SWEEP, checkpoints
from assets.graph import Graph
from assets.materialise import checkpoint_partitions
from assets.paths import root

INTERVAL_SECONDS = 60
MOST_AT_ONCE = 20  # run requests of one tick: a long run's backlog comes in over several


def checkpoint_sensor(graph: Graph) -> dg.SensorDefinition:
    """`<recipe>_checkpoints`: adds a partition per whole checkpoint and requests its evaluation."""
    recipe = graph.recipe.name
    partitions = checkpoint_partitions(recipe)

    @dg.sensor(
        name=f"{recipe}_checkpoints",
        asset_selection=[dg.AssetKey([recipe, name]) for name in SWEEP],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Evaluates each checkpoint of {recipe}'s runs as it appears.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        known = set(context.instance.get_dynamic_partitions(f"{recipe}_checkpoints"))
        new = [key for key in checkpoints(graph, root()) if key not in known][:MOST_AT_ONCE]
        if not new:
            return dg.SkipReason(f"no new checkpoint; {len(known)} are known")
        return dg.SensorResult(
            dynamic_partitions_requests=[partitions.build_add_request(new)],
            run_requests=[dg.RunRequest(run_key=key, partition_key=key) for key in new],
        )

    return watch
