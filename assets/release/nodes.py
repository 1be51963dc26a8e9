"""Release: the card of the final model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assets.corpus.doors import licences
from assets.node import Node, section_node
from assets.recipe import Recipe, require_unset
from olmo_core.config.load import to_dict
from olmo_core.config.model_card import ModelCardConfig

SET_BY_THE_GRAPH = {
    "licences": "from the `licence` of each source in corpus.yaml",
    "unconfirmed": "from `written_for` and the recipe's name",
}
# What is true of one model and not of another.
TEXTS = (
    *("description", "intended_use", "limitations", "tags"),
    *("datasets", "base_model", "hardware", "citation"),
)


def release_nodes(recipe: Recipe, models: list[str]) -> list[Node]:
    """Return the model card, made from the runs of `models` and from their evaluations."""
    require_unset(recipe.evals["model_card"], "model_card", SET_BY_THE_GRAPH)
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
    return [replace(card, config={**_texts(recipe, card.config), "licences": licences(recipe)})]


def _texts(recipe: Recipe, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section; without its texts where they were written for another recipe's model.

    The recipe's own name stays out of it: equal recipes of other names have one card.
    """
    written_for = config["written_for"]
    if written_for == recipe.name:
        return {**config, "unconfirmed": ""}
    whose = f"for the recipe {written_for}" if written_for else "for no recipe that is named"
    why = (
        f"The texts of the section model_card were written {whose}, and are left out here. Edit "
        "them until they are true of this model, then set written_for to the name of its recipe."
    )
    title = f"Variant of {written_for}" if written_for else "Untitled model"
    without = to_dict(ModelCardConfig(title=title))
    return {**config, **{key: without[key] for key in ("title", *TEXTS)}, "unconfirmed": why}
