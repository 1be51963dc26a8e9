"""Take models that others released into a run folder, by links, and read them to be evaluated.

Run as `python -m olmo_core.evals.models RUN_FOLDER/config.yaml`. `models/<name>/` links the files
of each; the result holds their digests, so that an evaluation is of the files that were found here.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.weight_files import open_weights
from olmo_core.config.released import ReleasedModels
from olmo_core.errors import InputError
from olmo_core.evals.released import CONFIG, TOKENIZER, find, label
from olmo_core.evals.rows import EvaluatedModel, exported_models
from olmo_core.files import sha256_file
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from olmo_core.run.result import damaged_files, digest


def make(config: ReleasedModels, inputs: Mapping[str, Path], job: Job) -> Report:
    """Link every model's files, and report what each is.

    Raises:
        InputError: a model is not here, cannot be evaluated, or is damaged in the hub's cache.
    """
    found: list[dict[str, Any]] = []
    for number, (name, model) in enumerate(config.models.items()):
        job.progress(number, len(config.models), unit="models", message=name)
        files = find(name, model)
        digests = files.digests()
        for file, path in files.files.items():
            if (read := sha256_file(path)) != digests[file]:
                raise InputError(
                    f"{name}: {path}: sha256 {read[:12]}…, but the hub's cache names it "
                    f"{digests[file][:12]}…: damaged; delete it, and fetch the model again"
                )
            link = job.folder / "models" / name / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        open_weights(job.folder / "models" / name)  # refuses what is truncated
        weights = {file: {"sha256": digests[file]} for file in files.weights}
        others = {file: {"sha256": value} for file, value in digests.items() if file not in weights}
        found.append(
            {
                "model": name,
                "revision": label(model, files, digests),
                "asked": model.revision or None,
                "model_type": files.model_type,
                "perplexity": model.perplexity,
                "path": f"models/{name}",
                "bytes": sum(path.stat().st_size for path in files.files.values()),
                "digests": {
                    "model": digests[files.weights[0]] if len(weights) == 1 else digest(weights),
                    "config": digests[CONFIG],
                    "tokenizer": digests[TOKENIZER],
                    "released": digest(others),  # what else transformers reads of it
                },
            }
        )
    rows = [{**each, "sha256": each["digests"]["model"][:12]} for each in found]
    shown = ("model", "revision", "asked", "model_type", "perplexity", "bytes", "sha256")
    return Report(
        numbers={"models": len(found), "bytes": sum(each["bytes"] for each in found)},
        tables={"models": [{key: row[key] for key in shown} for row in rows]},
        data={"models": found},
    )


def evaluated_models(
    inputs: Mapping[str, Path], *, perplexity: bool = False
) -> list[EvaluatedModel]:
    """Return the models of `export`, then those of `models` if that is an input.

    Args:
        inputs: Run folders.
        perplexity: Leave those out that are to be scored on tasks alone.

    Raises:
        InputError: a released model's files are gone or are not what they were.
    """
    ours = exported_models(inputs["export"])
    return [*ours, *(_released(inputs["models"], perplexity) if "models" in inputs else [])]


def _released(folder: Path, perplexity: bool) -> list[EvaluatedModel]:
    run = RunFolder(folder)
    if wrong := damaged_files(run, every_byte=True):
        raise InputError("; ".join(wrong))
    return [
        EvaluatedModel(
            model=each["model"],
            revision=each["revision"],
            step=None,
            tokens=None,
            sha256=each["digests"]["model"],
            folder=partial(Path, folder, each["path"]),
            digests=each["digests"],
        )
        for each in run.read_result()["report"]["data"]["models"]
        if each["perplexity"] or not perplexity
    ]


if __name__ == "__main__":
    run_job(ReleasedModels, make)
