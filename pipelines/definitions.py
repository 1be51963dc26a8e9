"""The only place that assembles: every recipe on the search path as Dagster definitions."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from assets.assemble import build_graph
from assets.execution.materialise import build_asset, build_checks
from assets.graph import Graph
from assets.recipe import find_recipes, load_recipe
from pipelines.jobs import evaluation_jobs, main_job
from pipelines.resources import resources

# The graph is one process's work: jobs are processes of their own, so steps only wait for them.
EXECUTOR = dg.in_process_executor


def build_definitions(
    recipes: Iterable[str] | None = None, with_resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Return definitions of the named recipes, all on the search path by default."""
    graphs = [build_graph(load_recipe(name)) for name in (recipes or find_recipes())]
    parts = [part for graph in graphs for part in (main_line(graph), evaluation_jobs(graph))]
    return assembled(*parts, with_resources=with_resources)


def main_line(graph: Graph) -> dg.Definitions:
    """Return the assets, checks and jobs of a recipe without its sweep."""
    nodes = graph.nodes.values()
    made = dg.Definitions(
        assets=[build_asset(graph, node) for node in nodes],
        asset_checks=[check for node in nodes for check in build_checks(graph, node)],
    )
    return dg.Definitions.merge(made, main_job(graph))


def assembled(
    *parts: dg.Definitions, with_resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Return these definitions with the resources and the executor that all assets want."""
    shared = dg.Definitions(resources=dict(with_resources or resources()), executor=EXECUTOR)
    return dg.Definitions.merge(*parts, shared)


@dg.definitions
def defs() -> dg.Definitions:
    """Return what Dagster loads (workspace.yaml)."""
    return build_definitions()
