"""Release: the card of the final model."""

from dataclasses import replace

from assets.corpus.doors import licences
from assets.node import Node, section_node
from assets.recipe import Recipe
from olmo_core.config.release import ModelCardConfig
from olmo_core.errors import ConfigError


def release_nodes(recipe: Recipe, models: list[str]) -> list[Node]:
    """Return the model card, made from the runs of `models` and from their evaluations."""
    if "licences" in recipe.evals["model_card"]:
        place = recipe.evals["model_card"].place("licences")
        raise ConfigError(
            f"{place}: model_card: licences: the graph sets it, from the `licence` of each source "
            "in corpus.yaml; take it out"
        )
    card = section_node(
        recipe,
        "evals",
        "model_card",
        ModelCardConfig,
        stage="release",
        description="One model card of the final model, from the measured results.",
        inputs=("leaderboard", "export", *models, "tokens", *recipe.mixes),
        packages=("duckdb",),
        kinds=("markdown",),
    )
    return [replace(card, config={**card.config, "licences": licences(recipe)})]
