"""The soup: a plain mean, or one whose weights a job of its own finds first."""

from dataclasses import replace
from typing import Any

from assets.corpus.doors import holds_out
from assets.node import Node
from assets.recipe import Recipe
from assets.train import checks
from olmo_core.config.load import place_in, to_dict
from olmo_core.config.perplexity import HELD_OUT, PerplexityConfig
from olmo_core.config.soups import SoupMethodConfig
from olmo_core.errors import ConfigError

DESCRIPTIONS = {
    "mean": "One model: the mean of the ingredients' weights.",
    "token_weighted": "One model: the ingredients' weights, each by its share of the tokens.",
    "greedy": "One model: the mean of those ingredients that do not raise the held-out loss.",
}


def soup_node(recipe: Recipe, ingredients: tuple[str, ...]) -> Node:
    """Return the soup of a recipe's ingredients, by the method of its section `soup`.

    Raises:
        ConfigError: another number of weights than of ingredients, or a method that needs documents
            of a recipe that holds none out.
    """
    section = recipe.section("evals", "soup", SoupMethodConfig)
    if section.weights is not None and len(section.weights) != len(ingredients):
        raise ConfigError(
            f"{place_in(recipe.evals, 'soup.weights')}: {len(section.weights)} weights; expected "
            f"one for each of the {len(ingredients)} ingredients"
        )
    node = Node(
        recipe=recipe.name,
        name="soup",
        stage="train",
        module="olmo_core.checkpoint.soup",
        description=DESCRIPTIONS[section.method],
        config=to_dict(section),
        inputs=ingredients,
        packages=("numpy",),
        kinds=("pytorch",),
        checks=(checks.ingredients_differ,),
    )
    if section.plain is not None:
        return replace(node, config=to_dict(section.plain))
    node = replace(node, module="olmo_core.soups.soup")
    if section.method != "greedy":
        return node
    return replace(
        node,
        config=to_dict(section) | {"perplexity": held_out_perplexity(recipe, "soup.method")},
        inputs=(*ingredients, "held_out", "tokenizer"),
        packages=("numpy", "pyarrow", "tokenizers", "torch"),
    )


def held_out_perplexity(recipe: Recipe, key: str) -> dict[str, Any]:
    """Return the section `perplexity` of the recipe's held-out documents alone.

    Args:
        recipe: The recipe.
        key: Of evals.yaml, that asks for the loss.

    Raises:
        ConfigError: the recipe holds nothing out.
    """
    if not holds_out(recipe):
        raise ConfigError(
            f"{place_in(recipe.evals, key)}: it compares losses on held-out documents, but the "
            "recipe holds none out; expected held_out.share above 0 in corpus.yaml"
        )
    config = recipe.section("evals", "perplexity", PerplexityConfig)
    own = next((each for each in config.sets if each.kind == "held_out"), HELD_OUT)
    return to_dict(replace(config, sets=(own,)))
