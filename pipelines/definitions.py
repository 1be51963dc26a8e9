"""The only place that assembles: recipes of the search path as Dagster definitions."""

from collections.abc import Iterable

import dagster as dg

from assets.assemble import build_graph
from assets.execution.materialise import ObserverFactory, build_asset, build_checks
from assets.graph import Graph
from assets.launcher import Launcher
from assets.recipe import load_recipe
from assets.reporting.observe import DagsterObserver
from pipelines.alerts.sensor import alert_sensor
from pipelines.jobs import evaluation_jobs, main_job, replay_job
from pipelines.launchers.router import site_launcher
from pipelines.shown import shown_recipes
from pipelines.site.file import load_site
from pipelines.up_to_date import up_to_date_sensor

# The graph is one process's work: jobs are processes of their own, so steps only wait for them.
EXECUTOR = dg.in_process_executor


def build_definitions(recipes: Iterable[str]) -> dg.Definitions:
    """Return definitions of the named recipes."""
    graphs = [build_graph(load_recipe(name)) for name in recipes]
    kinds = (main_line, evaluation_jobs, replay_job)
    parts = [part(graph) for graph in graphs for part in kinds]
    site = load_site()
    names = [graph.recipe.name for graph in graphs]
    watching = dg.Definitions(sensors=[alert_sensor(site.alerts), up_to_date_sensor(names)])
    return assembled(*parts, watching, launcher=site_launcher(site))


def main_line(graph: Graph) -> dg.Definitions:
    """Return the assets, checks and jobs of a recipe without its sweep."""
    nodes = graph.nodes.values()
    made = dg.Definitions(
        assets=[build_asset(graph, node) for node in nodes],
        asset_checks=[check for node in nodes for check in build_checks(graph, node)],
    )
    return dg.Definitions.merge(made, main_job(graph))


def assembled(
    *parts: dg.Definitions,
    launcher: Launcher | None = None,
    observer: ObserverFactory = DagsterObserver,
) -> dg.Definitions:
    """Return definitions that share executor, engines (by default the site's) and observer."""
    shared = {"launcher": launcher or site_launcher(), "observer": observer}
    resources = {k: dg.ResourceDefinition.hardcoded_resource(v) for k, v in shared.items()}
    return dg.Definitions.merge(*parts, dg.Definitions(resources=resources, executor=EXECUTOR))


@dg.definitions
def defs() -> dg.Definitions:
    """Return what Dagster loads (workspace.yaml): the recipes that are shown."""
    return build_definitions(shown_recipes())
