"""The parts of a model card on scores: the hub's `model-index`, the table of all figures, words."""

from collections.abc import Mapping
from typing import Any

from olmo_core.config.evals import TaskConfig
from olmo_core.errors import ConfigError
from olmo_core.evals.suites import MEAN, entries
from olmo_core.evals.task_files import read_task
from olmo_core.evals.task_sources import task_source
from olmo_core.release.card_facts import Facts

PER_SOURCE = ("loss", "bits_per_byte")  # shown of each source of a perplexity set


def model_index(facts: Facts) -> list[dict[str, Any]]:
    """Return the final model's task scores as the hub's `model-index` has them.

    Of a suite's task that is the figure which the suite shows; a mean over tasks is of no data set.
    """
    return [
        {
            "task": {"type": "text-generation", "name": row["task"]},
            "dataset": _data_set(row["task"]) | ({"split": row["split"]} if row["split"] else {}),
            "metrics": [
                {
                    "type": row["metric"],
                    "value": round(row["value"], 4),
                    "name": f"{row['metric']}, {row['num_fewshot'] or 0} shots{_limit(row)}",
                }
            ],
        }
        for row in facts.final_rows
        if row["stderr"] is not None and row["headline"] is not False and row["metric"] != MEAN
    ]


def results(facts: Facts) -> list[dict[str, Any]]:
    """Return the rows of the table of the final model's figures, without those of domains."""
    return [
        {
            "task": row["task"],
            "metric": row["metric"],
            "value": f"{row['value']:.4f}",
            "±": "" if row["stderr"] is None else f"{row['stderr']:.4f}",
            "documents": row["n"],
            "shots": row["num_fewshot"],
            "split": row["split"],
            "limit": "all" if row["limit"] is None else row["limit"],
            "limit_to": row["limit_to"] or "",
            "version": row["task_version"],
            "data": (row["data_sha256"] or "")[:12],
        }
        for row in facts.final_rows
        if "/" not in row["task"] or (row["task"].count("/") == 1 and row["metric"] in PER_SOURCE)
    ]


def losses(facts: Facts) -> dict[str, float]:
    """Return the final model's loss on each perplexity set, in nats per token, in their order."""
    return {
        row["task"]: row["value"]
        for row in facts.final_rows
        if row["metric"] == "loss" and "/" not in row["task"]
    }


def measures(facts: Facts) -> str:
    """Return what the figures of the leaderboard are of."""
    sets = [f"`{name}`" for name in losses(facts)]
    scores = (
        "Task scores are lm-eval's, with their standard error; higher is better. Tokens are those "
        "of a model's own run. A limit is of the documents of a task: a sample with a fixed seed, "
        "or the first ones where that is said"
    )
    if not sets:
        return f"{scores}."
    first, *further = sets
    of = f"{first}, or of the set that a title names ({', '.join(further)})" if further else first
    return (
        f"Loss (nats per token) and bits per byte (bpb) are of the documents of {of}; lower is "
        f"better. {scores}, or of the bytes of a source of such documents."
    )


def _data_set(task: str) -> dict[str, str]:
    """Return a task's data set as the hub names it; of a user's own task it has the task's name."""
    part = next(iter(entries()[task].metrics(task))) if task in entries() else task
    try:
        source = task_source(TaskConfig(name=part))
    except ConfigError:  # known neither here nor to lm-eval
        return {"name": task, "type": task}
    content = read_task(source.path)
    path, config = content.get("dataset_path"), content.get("dataset_name")
    if path is None:
        return {"name": task, "type": task}
    name = path.rpartition("/")[2]
    if config is None:
        return {"name": name, "type": path}
    return {"name": f"{name} ({config})", "type": path, "config": config}


def _limit(row: Mapping[str, Any]) -> str:
    if row["limit_to"] is None:  # all documents, of which there are not more than the limit
        return ""
    if row["limit_to"] == "first":
        return f", first {row['limit']} documents"
    return f", sample of {row['limit']} documents"
