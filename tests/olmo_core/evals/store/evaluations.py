"""Finished evaluations in run folders, as jobs leave them, without a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.evals.rows import ModelFacts, write_rows
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report

PARTS: Mapping[str, Any] = {
    "config": {"task_rows": {"copa": {"content": "{{premise}}"}, "piqa": {"content": "{{goal}}"}}},
    "code": {"olmo_core.evals.harness": "0123456789ab"},
    "packages": {"python": "3.11", "lm_eval": "0.4.13"},
}


def checkpoint(step: int, *, recipe: str = "demo", run: str = "aaaaaaaaaaaa") -> ModelFacts:
    """The facts of a checkpoint of stage 1."""
    return ModelFacts(
        **{"model": f"stage1@step{step}", "revision": None, "step": step, "tokens": 1000 * step},
        **{"recipe": recipe, "run": run, "seed": 6198, "sha256": f"weights of {step} of {run}"},
    )


def figure(task: str = "copa", value: float = 0.5, **fields: Any) -> dict[str, Any]:
    """One figure of a task."""
    known = {"metric": "acc", "stderr": 0.05, "n": 100, "truncated": 0, "num_fewshot": 0}
    told = {"task_version": "1.0", "data_sha256": f"data of {task}", "split": "validation"}
    return {"task": task, "value": value, **known, **told, "library": "lm_eval 0.4.13", **fields}


def evaluate(
    root: Path,
    *models: ModelFacts,
    figures: tuple[Mapping[str, Any], ...] = (figure(),),
    version: str = "eeeeeeeeeeee",
    recipe: str = "demo",
    fingerprint: str = "",
    parts: Mapping[str, Any] = PARTS,
    checkpoint_folder: Path | None = None,
    export: Path | None = None,
) -> RunFolder:
    """End a job that has scored a checkpoint, or if there are several, the models of `downstream`.

    `checkpoint_folder` and `export` are where it found them, below the root.
    The job adds its rows to the store of `OLMO_ROOT`, if that is set.
    """
    swept = len(models) == 1
    asset, partition = ("checkpoint_downstream", models[0].model) if swept else ("downstream", None)
    run = RunFolder(root.joinpath(recipe, asset, *([partition] if partition else []), version))
    run.path.mkdir(parents=True, exist_ok=True)
    identity = {"recipe": recipe, "asset": asset, "partition": partition}
    place = checkpoint_folder if swept else export
    read = {"fingerprint": "f", "digest": "manifest", "root": "own"}
    read["path"] = str(place.relative_to(root)) if place else "x/checkpoints/y"
    launch = {
        **{"schema_version": 1, **identity, "fingerprint": fingerprint or version, "parts": parts},
        "inputs": {"checkpoint" if swept else "export": read} if swept or place else {},
        "code": {"commit": "c0ffee", "dirty": True},
    }
    write_json(run.launch, launch)
    write_json(run.config, {**identity, "config": {"batch_size": 8}, "inputs": {}})
    rows = [model.row(**each) for model in models for each in figures]
    with Job.open(run.path) as job:
        write_rows(run.path / "rows.parquet", rows)
        job.finish(Report(numbers={"rows": len(rows)}))
    return run
