"""The sensor that keeps Dagster's checks `up_to_date` as `olmo plan` has them; starts nothing."""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets.assemble import build_graph
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.up_to_date import NAME, evaluation
from assets.staleness import asset_states
from olmo_core.errors import ConfigError

INTERVAL_SECONDS = 120


def up_to_date_sensor(recipes: Sequence[str]) -> dg.SensorDefinition:
    """Return `up_to_date`: on by default, for all recipes of which something has been made.

    Each recipe is read anew, with what has been accepted; the code is as this server has loaded it.
    """

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Says of each asset whether it is up to date, and if not, why; runs nothing.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        news: list[dg.AssetCheckEvaluation] = []
        for recipe in recipes:
            if not (root() / recipe).is_dir():
                continue
            try:
                news += _news(context.instance, recipe)
            except ConfigError as error:  # a file that is just being edited, say
                context.log.warning(f"{recipe}: {error}")
        if not news:
            return dg.SkipReason("nothing has changed")
        return dg.SensorResult(asset_events=news)

    return look


def _news(instance: dg.DagsterInstance, recipe: str) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield what Dagster does not know yet, or knows otherwise."""
    graph = build_graph(load_recipe(recipe)).looked_at_once()
    for state in asset_states(graph, root(), graph.nodes).values():
        found = evaluation(recipe, state)
        record = instance.get_latest_asset_check_evaluation_record(found.asset_check_key)
        event = record.event if record is not None else None
        known = event.asset_check_evaluation if event is not None else None
        if known is None or (known.passed, known.description) != (found.passed, found.description):
            yield found
