"""Evaluate a training checkpoint exactly like an exported model: the jobs of the two sweep assets.

Run as `python -m olmo_core.evals.checkpoint RUN_FOLDER/config.yaml`; the file's `asset` is
`checkpoint_downstream` or `checkpoint_perplexity`. The checkpoint becomes a Hugging Face folder in
the job's scratch, so that the same code scores it and equal weights find the same cache entry.
"""

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.layout import MANIFEST, STATE, Checkpoint
from olmo_core.config.evals import DownstreamConfig
from olmo_core.config.load import load, nearest, to_dict
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.cache import cached_scores
from olmo_core.evals.libraries import versions
from olmo_core.evals.rows import FACTS, EvaluatedModel, read_rows, run_facts
from olmo_core.files import sha256_file
from olmo_core.run.code import code_digest
from olmo_core.run.command import exit_codes, run_job
from olmo_core.run.job import Job, Report

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "result.json",  # ids of special tokens
)
# What decides the Hugging Face folder of a checkpoint.
CONVERTED_BY = (
    "olmo_core.checkpoint.index",
    "olmo_core.checkpoint.state",
    "olmo_core.checkpoint.weights",
    "olmo_core.release.hub",
)
CONFIGS: Mapping[str, type[Any]] = {
    "checkpoint_downstream": DownstreamConfig,
    "checkpoint_perplexity": PerplexityConfig,
}


def export_checkpoint(step_folder: Path, tokenizer: Path, scratch: Path) -> EvaluatedModel:
    """Convert `<run>/checkpoints/step{N}` to a Hugging Face folder below `scratch`.

    Args:
        step_folder: A whole checkpoint; its run folder holds the configuration.
        tokenizer: The tokenizer's run folder.
        scratch: Receives `model/` (ours) and `export/` (Hugging Face's).

    Returns:
        The model, named `<asset>@step{N}` after the asset that was trained.

    Raises:
        InputError: the checkpoint is not whole, does not fit its run's configuration, or has
            weights that are no finite numbers: tasks would be scored all the same.
    """
    from olmo_core.checkpoint.index import read_into
    from olmo_core.checkpoint.state import state_of
    from olmo_core.checkpoint.weight_files import weights_sha256
    from olmo_core.checkpoint.weights import read_model, save_model
    from olmo_core.model.transformer import Transformer
    from olmo_core.release.hub import revision_name, write_export

    if not (step_folder / STATE).is_dir():
        raise InputError(f"{step_folder}: not a checkpoint ({STATE}/ is missing)")
    checkpoint = Checkpoint(step_folder)
    checkpoint.verify()
    run = step_folder.parent.parent
    config = read_model(load(run / "config.yaml"), str(run / "config.yaml"))
    model = Transformer(config)
    read_into(state_of(model, None), step_folder / STATE)
    for parameter, values in model.named_parameters():
        if not values.isfinite().all():
            raise InputError(
                f"{step_folder}: {parameter} holds values that are no finite numbers; the model "
                "has diverged"
            )
    save_model(scratch / "model", model, {"model": to_dict(config)})
    write_export(scratch / "model", tokenizer, scratch / "export")
    train = checkpoint.read_train()
    name, step, tokens = run.parent.name, int(train["step"]), int(train["tokens"])
    return EvaluatedModel(
        **run_facts(run),
        model=f"{name}@step{step}",
        revision=revision_name(name, step, tokens),
        step=step,
        tokens=tokens,
        sha256=weights_sha256(scratch / "export"),
        folder=lambda: scratch / "export",
    )


def checkpoint_model(step_folder: Path, tokenizer: Path, job: Job) -> EvaluatedModel:
    """Return a checkpoint's model, converted only if something is to be scored with it.

    What its converted folder would be is kept with the scores, by all that decides it.

    Raises:
        InputError: as `export_checkpoint`; what is known already is not verified again.
    """

    @functools.cache
    def converted() -> EvaluatedModel:
        with job.timed("convert"):
            return export_checkpoint(step_folder, tokenizer, job.scratch)

    run = step_folder.parent.parent
    if not (step_folder / MANIFEST).is_file():
        return converted()  # which says what is wrong
    files = {
        "manifest": step_folder / MANIFEST,  # it holds the SHA-256 of every file
        "config": run / "config.yaml",
        **{name: tokenizer / name for name in TOKENIZER_FILES},
    }
    key = {
        "kind": "checkpoint",
        "asset": run.parent.name,
        "files": {name: sha256_file(path) for name, path in files.items()},
        "code": code_digest(*CONVERTED_BY),
        "versions": versions(),
    }

    def convert(missing: Sequence[int]) -> Iterator[dict[str, Any]]:
        for _ in missing:
            model = converted()
            names = ("model", "revision", "step", "tokens", "sha256")
            yield {name: getattr(model, name) for name in names} | {"digests": model.identity()}

    [known], _ = cached_scores(job.cache / "evals", [key], convert)
    return EvaluatedModel(**known, **run_facts(run), folder=lambda: converted().path)


def make(
    config: DownstreamConfig | PerplexityConfig, inputs: Mapping[str, Path], job: Job
) -> Report:
    """Score a checkpoint; inputs: checkpoint, tokenizer, and held_out for a set that is it."""
    model = checkpoint_model(inputs["checkpoint"], inputs["tokenizer"], job)
    if isinstance(config, PerplexityConfig):
        from olmo_core.evals.perplexity import perplexity

        report = perplexity.score_models(config, [model], inputs.get("held_out"), job)
    else:
        from olmo_core.evals import downstream

        report = downstream.score_models(config, [model], job)
    facts = {name: value for name in FACTS if (value := getattr(model, name)) is not None}
    return replace(report, numbers={**facts, **_scores(job.folder), **report.numbers})


def _scores(folder: Path) -> dict[str, float]:
    """Return the figures that a plot over checkpoints is of: `task metric` -> value.

    Those of the sources and domains of a perplexity set stand in the rows and tables alone.
    """
    return {
        f"{row['task']} {row['metric']}": row["value"]
        for row in read_rows(folder / "rows.parquet")
        if "/" not in row["task"]
    }


def main() -> None:
    """Run the job that the configuration file's `asset` names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m olmo_core.evals.checkpoint RUN_FOLDER/config.yaml")
    with exit_codes():
        asset = load(sys.argv[1]).get("asset")
        if str(asset) not in CONFIGS:  # it may be a list
            raise ConfigError(f"{sys.argv[1]}: asset: {asset!r}; {nearest(str(asset), CONFIGS)}")
    run_job(CONFIGS[str(asset)], make)


if __name__ == "__main__":
    main()
