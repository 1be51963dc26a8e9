"""Release: the card of the final model."""

from assets.node import Node, section_node
from assets.recipe import Recipe
from olmo_core.config.release import ModelCardConfig


def release_nodes(recipe: Recipe, models: list[str]) -> list[Node]:
    """Return the model card, made from the runs of `models` and from their evaluations."""
    return [
        section_node(
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
    ]
