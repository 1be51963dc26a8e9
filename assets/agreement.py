"""What the sections of a recipe must agree on, asked before anything is made.

Each job refuses what does not fit as well; here a mistake costs a second instead of the hours of
the jobs before it.
"""

from assets.recipe import Recipe
from olmo_core.config.evals import DownstreamConfig
from olmo_core.config.load import nearest, place_in, to_dict
from olmo_core.config.train import TrainConfig
from olmo_core.corpus.mix import MixConfig
from olmo_core.corpus.raw import RawConfig
from olmo_core.corpus.tokenizer import TokenizerConfig
from olmo_core.errors import ConfigError
from olmo_core.evals.task_data import TASKS


def require_agreement(recipe: Recipe) -> None:
    """Refuse a recipe whose sections contradict each other.

    Raises:
        ConfigError: a mix of an unknown source, a vocabulary that is larger than the embedding,
            stages of different models, a task without data.
    """
    stage1 = recipe.stage1_config()
    ingredients = [config for _, config in recipe.ingredients()]
    _require_sources(recipe)
    _require_vocabulary(recipe, stage1)
    for number, config in enumerate(ingredients, start=1):
        _require_one_model(recipe, number, stage1, config)
    for task in recipe.section("evals", "downstream", DownstreamConfig).tasks:
        if task.name not in TASKS:
            raise ConfigError(
                f"{place_in(recipe.evals, 'downstream.tasks')}: no offline data of {task.name!r}; "
                f"{nearest(task.name, TASKS)}"
            )


def _require_sources(recipe: Recipe) -> None:
    known = [source.name for source in recipe.section("corpus", "raw", RawConfig).sources]
    for mix in recipe.mixes:
        for source in recipe.section("corpus", mix, MixConfig).sources:
            if source not in known:
                raise ConfigError(
                    f"{place_in(recipe.corpus, f'{mix}.sources')}: no source {source!r} in raw; "
                    f"{nearest(source, known)}"
                )


def _require_vocabulary(recipe: Recipe, stage1: TrainConfig) -> None:
    entries = recipe.section("corpus", "tokenizer", TokenizerConfig).vocab_size
    if entries > stage1.model.padded_vocab_size:
        raise ConfigError(
            f"{place_in(recipe.stage1, 'model.embedding_size')}: "
            f"{stage1.model.padded_vocab_size} rows for the {entries} entries of "
            "tokenizer.vocab_size in corpus.yaml"
        )


def _require_one_model(
    recipe: Recipe, number: int, stage1: TrainConfig, ingredient: TrainConfig
) -> None:
    ours, theirs = to_dict(stage1.model), to_dict(ingredient.model)
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        key = different[0]
        place = place_in(recipe.ingredient_tree(number), f"model.{key}")
        raise ConfigError(
            f"{place}: {theirs[key]!r} (ingredient {number}), "
            f"but stage 1, whose weights it starts from, has {ours[key]!r}"
        )
