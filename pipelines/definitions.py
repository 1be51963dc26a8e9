"""The only place that assembles: every recipe on the search path as Dagster definitions."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from assets.assemble import build_graph
from assets.graph import Graph
from assets.materialise import build_asset, build_checks
from assets.recipe import find_recipes, load_recipe
from pipelines.jobs import recipe_jobs
from pipelines.resources import resources

# The graph is one process's work: jobs are processes of their own, so steps only wait for them.
EXECUTOR = dg.in_process_executor


def build_definitions(
    recipes: Iterable[str] | None = None, with_resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Definitions of the named recipes, all on the search path by default."""
    graphs = [build_graph(load_recipe(name)) for name in (recipes or find_recipes())]
    return graph_definitions(*graphs, with_resources=with_resources)


def graph_definitions(
    *graphs: Graph, with_resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Definitions of these graphs."""
    merged = dg.Definitions.merge(*(_one_graph(graph) for graph in graphs))
    return dg.Definitions.merge(
        merged, dg.Definitions(resources=dict(with_resources or resources()), executor=EXECUTOR)
    )


def _one_graph(graph: Graph) -> dg.Definitions:
    assets = dg.Definitions(
        assets=[build_asset(graph, node) for node in graph.nodes.values()],
        asset_checks=[
            check for node in graph.nodes.values() for check in build_checks(graph, node)
        ],
    )
    return dg.Definitions.merge(assets, recipe_jobs(graph))


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads (workspace.yaml)."""
    return build_definitions()
