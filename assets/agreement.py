"""What the sections of a recipe must agree on, asked before anything is made.

Each job refuses what does not fit as well; here a mistake costs a second instead of the hours of
the jobs before it.
"""

import math

from assets.corpus.doors import has_text, require_doors, source_names
from assets.recipe import Recipe
from olmo_core.config.evals import DownstreamConfig
from olmo_core.config.load import nearest, place_in, to_dict
from olmo_core.config.train import TrainConfig
from olmo_core.corpus.tokens.mix import MixConfig
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig
from olmo_core.errors import ConfigError
from olmo_core.evals.suites import SUITES, entries
from olmo_core.evals.task_files import stock_task
from olmo_core.evals.task_sources import TASKS, task_source
from olmo_core.monitor.dry_run import last_rate, steps_of

ANNEALED_SHARE = 0.05  # of the peak rate, which the last rate of stage 2 lies below
EQUAL_RATES = 0.01  # relative; released recipes round the rate that stage 2 starts with


def require_agreement(recipe: Recipe) -> None:
    """Refuse a recipe whose sections contradict each other.

    Raises:
        ConfigError: a mix of an unknown source, token files beside what cannot go with them, a
            vocabulary that is larger than the embedding, stages of different models, a stage 2 that
            does not anneal to zero, an unknown suite, a task without data.
    """
    stage1 = recipe.stage1_config()
    ingredients = [config for _, config in recipe.ingredients()]
    require_doors(recipe)
    _require_sources(recipe)
    _require_vocabulary(recipe, stage1)
    for number, config in enumerate(ingredients, start=1):
        _require_one_model(recipe, number, stage1, config)
        _require_annealing(recipe, number, config)
    _require_tasks(recipe)


def _require_tasks(recipe: Recipe) -> None:
    config = recipe.section("evals", "downstream", DownstreamConfig)
    for each in config.suites:
        name = each if isinstance(each, str) else each.name
        if name not in SUITES:
            raise ConfigError(
                f"{place_in(recipe.evals, 'downstream.suites')}: no suite {name!r}; "
                f"{nearest(name, SUITES)}"
            )
    place = place_in(recipe.evals, "downstream.tasks")
    for task in config.tasks:
        if task.file is not None and not task_source(task).path.is_file():
            raise ConfigError(f"{place}: {task.name}: {task_source(task).path}: no such file")
        known = task.file is not None or task.name in {*TASKS, *entries()}
        if not known and stock_task(task.name) is None:
            raise ConfigError(f"{place}: no task {task.name!r}; {nearest(task.name, TASKS)}")


def _require_sources(recipe: Recipe) -> None:
    known = source_names(recipe)
    door = "raw" if has_text(recipe) else "tokens.published"
    for mix in recipe.mixes:
        for source in recipe.section("corpus", mix, MixConfig).sources:
            if source not in known:
                raise ConfigError(
                    f"{place_in(recipe.corpus, f'{mix}.sources')}: no source {source!r} in {door}; "
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


def _require_annealing(recipe: Recipe, number: int, config: TrainConfig) -> None:
    """Refuse an ingredient that the check `annealed_to_zero` would find wanting after training."""
    peak, last = config.optimizer.learning_rate, last_rate(config)
    if last is None or last < ANNEALED_SHARE * peak:
        return
    tree, (steps, _) = recipe.ingredient_tree(number), steps_of(config)
    cut = steps is not None and config.stop_at is not None and config.stop_at < steps
    key = "stop_at" if cut else "scheduler"
    expected = f"the schedule ends at step {steps}" if cut else "expected a decay to zero (alpha_f)"
    raise ConfigError(
        f"{place_in(tree, key)}: ingredient {number} would end at the rate {last:.4g}, "
        f"{last / peak:.0%} of its peak {peak:.4g}, and its soup needs less than "
        f"{ANNEALED_SHARE:.0%}; {expected}"
    )


def rate_doubts(recipe: Recipe) -> list[str]:
    """Return a warning per ingredient that starts at another rate than stage 1 ends with.

    Empty where the rates agree, there is no stage 2, or only the data could tell.
    """
    end = last_rate(recipe.stage1_config())
    if end is None:
        return []
    doubts: list[str] = []
    for number, (_, config) in enumerate(recipe.ingredients(), start=1):
        start = config.optimizer.learning_rate
        if not math.isclose(start, end, rel_tol=EQUAL_RATES):
            place = place_in(recipe.ingredient_tree(number), "optimizer.learning_rate")
            doubts.append(f"{place}: stage 2 starts at {start:.5g}, but stage 1 ends at {end:.5g}")
    return list(dict.fromkeys(doubts))
