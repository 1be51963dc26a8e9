"""Soups of more than the mean of the ingredients' last weights.

Ingredients may first be averaged over their last checkpoints; their weights may be found by their
tokens, or by the held-out loss.

Run as `python -m olmo_core.soups.soup RUN_FOLDER/config.yaml`. The weights once found, the average
is made by `olmo_core.checkpoint.soup`, as that of a plain soup; an ingredient that is left out is
recorded with weight 0. `model/recipe.json` keeps how they were found.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from olmo_core.checkpoint import soup
from olmo_core.checkpoint.soup import ingredient_order
from olmo_core.checkpoint.tensor_file import TensorFile
from olmo_core.checkpoint.weight_files import WEIGHTS
from olmo_core.config.release import SoupConfig
from olmo_core.config.soups import SoupJobConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file, write_json
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from olmo_core.soups.greedy import Trial, choose

HELD_OUT, TOKENIZER = "held_out", "tokenizer"  # inputs that are no ingredients


@dataclass(frozen=True, kw_only=True)
class Found:
    """The weights of the ingredients, by their names in order, and how they were found."""

    weights: Mapping[str, float]
    numbers: Mapping[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    trials: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    documents: Mapping[str, Any] | None = None  # that the losses are of


def make(config: SoupJobConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Find the weights of the ingredients, and average their models into `model/`."""
    names = ingredient_order([name for name in inputs if name not in (HELD_OUT, TOKENIZER)])
    ingredients = {name: inputs[name] for name in names}
    checkpoints: list[dict[str, Any]] = []
    if config.last_checkpoints > 1:
        ingredients, checkpoints = _moving_averages(config, ingredients, job)
    if len(ingredients) > 1:
        found = _find(config, ingredients, inputs, job)
        shares = tuple(found.weights.values())
        report = soup.make(SoupConfig(weights=shares), ingredients, job)
    else:
        found = Found(weights=dict.fromkeys(ingredients, 1.0))
        report = _alone(next(iter(ingredients.items())), job)
    recipe = {
        "method": config.method,
        "weights": dict(found.weights),
        "last_checkpoints": checkpoints,
        "trials": found.trials,
        "held_out": found.documents,
    }
    write_json(job.folder / "model" / "recipe.json", recipe)
    tables = {"trials": found.trials, "checkpoints": checkpoints}
    return replace(
        report,
        numbers={"method": config.method, **found.numbers, **report.numbers},
        tables={**report.tables, **{name: rows for name, rows in tables.items() if rows}},
        data={
            **report.data,
            **_origin(report.data["parents"], report.data["weights"]),
            "method": config.method,
            "last_checkpoints": config.last_checkpoints,
        },
    )


def _moving_averages(
    config: SoupJobConfig, runs: Mapping[str, Path], job: Job
) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """Return run folders of the runs' averages, in the scratch, and which checkpoints are in them.

    Raises:
        ConfigError: it is not said how far a run's checkpoints lie apart.
    """
    from olmo_core.soups.moving_average import average_checkpoints  # torch takes seconds

    made: dict[str, Path] = {}
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        if name not in config.save_intervals:
            raise ConfigError(f"soup: save_intervals: {name}: missing; expected a number of steps")
        folder = job.scratch / "runs" / name
        averaged = average_checkpoints(
            run,
            folder / "model",
            count=config.last_checkpoints,
            save_interval=config.save_intervals[name],
            job=job,
        )
        result = RunFolder(run).read_result()
        data = {key: result["report"]["data"].get(key) for key in ("step", "tokens", "parent")}
        data["model_sha256"] = sha256_file(folder / "model" / WEIGHTS)
        write_json(folder / "result.json", {**result, "report": {"data": data}})
        made[name] = folder
        rows += [{"model": name, **asdict(each)} for each in averaged]
    return made, rows


def _alone(ingredient: tuple[str, Path], job: Job) -> Report:
    """Take the average of a single run's checkpoints for the soup."""
    name, folder = ingredient
    model = job.folder / "model"
    (folder / "model").rename(model)
    data = RunFolder(folder).read_result()["report"]["data"]
    parent = {
        "model": name,
        "sha256": data["model_sha256"],
        "step": data["step"],
        "tokens": data["tokens"],
        "parent_sha256": (data["parent"] or {}).get("model_sha256"),
    }
    write_json(model / "parents.json", [{**parent, "weight": 1.0}])
    specs = TensorFile(model / WEIGHTS).tensors
    row = {"model": name, "weight": 1.0, "step": parent["step"], "tokens": parent["tokens"]}
    return Report(
        numbers={
            "ingredients": 1,
            "tensors": len(specs),
            "parameters": sum(math.prod(spec.shape) for spec in specs.values()),
            "model_bytes": (model / WEIGHTS).stat().st_size,
        },
        tables={"ingredients": [{**row, "sha256": parent["sha256"][:12]}]},
        data={"model_sha256": parent["sha256"], "parents": [parent], "weights": [1.0]},
    )


def _find(
    config: SoupJobConfig, ingredients: Mapping[str, Path], inputs: Mapping[str, Path], job: Job
) -> Found:
    if config.method == "greedy":
        return _greedy(config, ingredients, inputs, job)
    if config.method == "token_weighted":
        return Found(weights=token_shares(ingredients))
    given = config.weights or [1 / len(ingredients)] * len(ingredients)
    return Found(weights=dict(zip(ingredients, given, strict=True)))


def token_shares(ingredients: Mapping[str, Path]) -> dict[str, float]:
    """Return a weight per ingredient that is its share of the tokens of all.

    Raises:
        InputError: a run does not say how many tokens it was trained on.
    """
    tokens: dict[str, int] = {}
    for name, folder in ingredients.items():
        said = RunFolder(folder).read_result()["report"]["data"].get("tokens")
        if not said:
            raise InputError(f"{folder}: result.json: tokens: {said!r}; expected a number above 0")
        tokens[name] = said
    return {name: count / sum(tokens.values()) for name, count in tokens.items()}


def _greedy(
    config: SoupJobConfig, ingredients: Mapping[str, Path], inputs: Mapping[str, Path], job: Job
) -> Found:
    from olmo_core.soups.held_out import HeldOutLoss  # torch takes seconds

    if config.perplexity is None:
        raise ConfigError("soup: perplexity: missing; expected how the held-out loss is measured")
    held_out = HeldOutLoss(
        config.perplexity,
        ingredients,
        held_out=inputs[HELD_OUT],
        tokenizer=inputs[TOKENIZER],
        measurements=2 * len(ingredients) - 1,
        job=job,
    )

    def loss_of(members: Sequence[str]) -> float:
        shares = mean_of(members, ingredients)
        return held_out.measure(shares, f"mean of {', '.join(sorted(members))}")

    losses = {name: held_out.measure({name: 1.0}, name) for name in ingredients}
    trials = choose(losses, loss_of)
    kept = [trial for trial in trials if trial.kept]
    return Found(
        weights=mean_of([trial.ingredient for trial in kept], ingredients),
        numbers={
            "held_out_loss": kept[-1].loss,
            "best_ingredient": kept[0].ingredient,
            "best_ingredient_loss": kept[0].loss,
        },
        trials=[_row(trial, losses) for trial in trials],
        documents=held_out.documents,
    )


def mean_of(members: Sequence[str], ingredients: Mapping[str, Path]) -> dict[str, float]:
    """Return equal weights of the members, and 0 of the other ingredients, in their order."""
    return {name: 1 / len(members) if name in members else 0.0 for name in ingredients}


def _row(trial: Trial, losses: Mapping[str, float]) -> dict[str, Any]:
    return {
        "ingredient": trial.ingredient,
        "loss_alone": losses[trial.ingredient],
        "loss_in_soup": trial.loss,
        "kept": trial.kept,
    }


def _origin(parents: list[dict[str, Any]], shares: Sequence[float]) -> dict[str, Any]:
    """Return step and tokens of a soup, of the ingredients that are in it."""
    used = [parent for parent, share in zip(parents, shares, strict=True) if share]
    steps, tokens = {parent["step"] for parent in used}, [parent["tokens"] for parent in used]
    return {
        "step": steps.pop() if len(steps) == 1 else None,
        "tokens": sum(tokens) if None not in tokens else None,
    }


if __name__ == "__main__":
    run_job(SoupJobConfig, make)
