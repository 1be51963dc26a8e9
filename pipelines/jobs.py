"""One job a recipe over its main line, and one over its evaluations."""

import dagster as dg

from assets.graph import Graph

EVALUATIONS = ("perplexity", "downstream", "leaderboard", "model_card")


def recipe_jobs(graph: Graph) -> dg.Definitions:
    """`<recipe>`: from raw text to the model card; `<recipe>_evaluate`: the evaluations alone."""
    name = graph.recipe.name
    main_line = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*(node.key for node in graph.nodes.values())),
        description=f"The main line of {name}: what is finished is reported again, not redone.",
        tags={"recipe": name},
    )
    evaluations = [node.key for node in graph.nodes.values() if node.name in EVALUATIONS]
    evaluate = dg.define_asset_job(
        f"{name}_evaluate",
        selection=dg.AssetSelection.assets(*evaluations),
        description=f"The evaluations of {name}'s models.",
        tags={"recipe": name},
    )
    return dg.Definitions(jobs=[main_line, evaluate] if evaluations else [main_line])
