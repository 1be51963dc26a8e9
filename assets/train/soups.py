"""The soup: a plain mean of the ingredients, or what a job of its own finds before it averages."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assets.corpus.doors import holds_out
from assets.node import Node
from assets.recipe import Recipe
from assets.train import checks
from olmo_core.config.duration import last_step
from olmo_core.config.load import place_in, to_dict
from olmo_core.config.perplexity import HELD_OUT, PerplexityConfig
from olmo_core.config.soups import SoupMethodConfig
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.monitor.dry_run import steps_of

DESCRIPTIONS = {
    "mean": "One model: the mean of the ingredients' weights.",
    "token_weighted": "One model: the ingredients' weights, each by its share of the tokens.",
    "greedy": "One model: the mean of those ingredients that do not raise the held-out loss.",
}


def souped(recipe: Recipe) -> dict[str, TrainConfig]:
    """Return the runs that the recipe's soup is of, by name in order; none: it has no soup.

    They are those of stage 2. A recipe without one may have a soup of stage 1's last checkpoints.
    """
    runs = {f"stage2_ingredient{k}": each for k, (_, each) in enumerate(recipe.ingredients(), 1)}
    if runs or "soup" not in recipe.evals:
        return runs
    section = recipe.section("evals", "soup", SoupMethodConfig)
    return {"stage1": recipe.stage1_config()} if section.last_checkpoints > 1 else {}


def soup_node(recipe: Recipe, runs: Mapping[str, TrainConfig]) -> Node:
    """Return the soup of a recipe's runs, by the method of its section `soup`.

    Args:
        recipe: The recipe.
        runs: The ingredients by name, in order; or a single run, whose checkpoints are averaged.

    Raises:
        ConfigError: another number of weights than of ingredients, a choice among one, fewer
            checkpoints than are to be averaged, or a method that needs documents of a recipe that
            holds none out.
    """
    section = recipe.section("evals", "soup", SoupMethodConfig)
    if section.weights is not None and len(section.weights) != len(runs):
        raise ConfigError(
            f"{place_in(recipe.evals, 'soup.weights')}: {len(section.weights)} weights; expected "
            f"one for each of the {len(runs)} ingredients"
        )
    if len(runs) == 1 and section.method != "mean":
        raise ConfigError(
            f"{place_in(recipe.evals, 'soup.method')}: {section.method}, but the recipe has one "
            "run and no stage 2; expected mean"
        )
    node = Node(
        recipe=recipe.name,
        name="soup",
        stage="train",
        module="olmo_core.checkpoint.soup",
        description=DESCRIPTIONS[section.method],
        config=to_dict(section),
        inputs=tuple(runs),
        packages=("numpy",),
        kinds=("pytorch",),
        checks=(checks.ingredients_differ,) if len(runs) > 1 else (),
    )
    if section.plain is not None:
        return replace(node, config=to_dict(section.plain))
    if section.last_checkpoints > 1:
        intervals = {
            name: _save_interval(recipe, name, config, section.last_checkpoints)
            for name, config in runs.items()
        }
        config = {**node.config, "save_intervals": intervals}
        node = replace(node, config=config, packages=("numpy", "torch"))
    node = replace(node, module="olmo_core.soups.soup")
    if section.method != "greedy":
        return node
    return replace(
        node,
        config={**node.config, "perplexity": held_out_perplexity(recipe, "soup.method")},
        inputs=(*runs, "held_out", "tokenizer"),
        packages=("numpy", "pyarrow", "tokenizers", "torch"),
    )


def _save_interval(recipe: Recipe, name: str, config: TrainConfig, count: int) -> int:
    """Return the steps between a run's checkpoints, of which `count` are there at its end.

    Raises:
        ConfigError: fewer are written, or kept.
    """
    steps, _ = steps_of(config)
    steps = config.stop_at if steps is None else last_step(steps, config.stop_at)
    interval, kept = config.save_interval, config.save_num_checkpoints_to_keep
    written = 1 if interval is None else count if steps is None else -(-steps // interval)
    if interval is None or written < count or 0 <= kept < count:
        found = f"{written} are written" if written < count else f"{kept} are kept"
        raise ConfigError(
            f"{place_in(recipe.evals, 'soup.last_checkpoints')}: {count}, but of {name} {found}; "
            f"expected save_interval, of {steps or 'all'} steps, and save_num_checkpoints_to_keep "
            "to leave as many"
        )
    return interval


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
