"""lm-eval on an exported model: loaded strictly, offline, one task at a time."""

import logging
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Read when the libraries below are imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import numpy as np
import torch
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

from olmo_core.checkpoint.huggingface import device_for_evaluation, load_pretrained
from olmo_core.config.evals import TaskConfig
from olmo_core.evals.language_model import LanguageModel
from olmo_core.evals.sample import published_documents, sampled_documents

FEWSHOT_SEED = 1234  # lm-eval's own default
BOOTSTRAP_ITERATIONS = 100  # means have a closed form; this bounds the few metrics that have none


def load_tasks(names: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """Return lm-eval's tasks of the YAML files in a folder, by name."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return manager.load([*names])["tasks"]


class Harness:
    """lm-eval's tasks, loaded once for all models."""

    def __init__(self, tasks: Sequence[TaskConfig], shadows: Path) -> None:
        datasets.disable_progress_bars()
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self.tasks = load_tasks([task.name for task in tasks], shadows)
        for task in tasks:
            self.tasks[task.name].set_config(key="num_fewshot", value=task.num_fewshot)

    def language_model(self, folder: Path, batch_size: int) -> LanguageModel:
        """Return an exported model as lm-eval's language model, on the GPU if there is one."""
        return LanguageModel(
            pretrained=load_pretrained(folder, device_for_evaluation()),
            tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
            batch_size=batch_size,
        )

    def score(
        self, model: LanguageModel, task: TaskConfig, *, sample_seed: int = 0
    ) -> list[dict[str, Any]]:
        """Return the rows of one task: metric, value, stderr, n, truncated and task_version.

        Raises:
            InputError: a document cannot be scored by this model; names it.
        """
        # As lm-eval's own command does before every run.
        random.seed(0)
        np.random.seed(1234)
        torch.manual_seed(1234)
        # The task draws on: a second model would be shown other examples than the first.
        self.tasks[task.name].set_fewshot_seed(seed=FEWSHOT_SEED)
        documents = self._documents(task, sample_seed)
        model.begin(documents.get("samples", {}).get(task.name))
        results: Any = evaluate(
            model,
            {"tasks": {task.name: self.tasks[task.name]}, "groups": {}},
            **documents,
            bootstrap_iters=BOOTSTRAP_ITERATIONS,
            log_samples=False,
        )
        if results is None:
            raise RuntimeError("lm-eval gave no results on this rank")
        figures = results["results"][task.name]
        rows: list[dict[str, Any]] = []
        for key, value in figures.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            stderr = figures.get(f"{metric}_stderr,{filtered}")
            rows.append(
                {
                    "metric": metric if filtered == "none" else f"{metric}/{filtered}",
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                    "n": results["n-samples"][task.name]["effective"],
                    "truncated": len(model.cut),
                    "task_version": str(results["versions"][task.name]),
                }
            )
        return rows

    def _documents(self, task: TaskConfig, seed: int) -> dict[str, Any]:
        """Return which documents are scored, as an argument of lm-eval's `evaluate`."""
        documents = len(self.tasks[task.name].eval_docs)
        if task.limit is None or task.limit >= documents:
            return {}
        if task.limit_to == "first":
            return {"limit": task.limit}
        sizes = {"seed": seed, "documents": documents, "limit": task.limit}
        if task.limit_to == "published":
            chosen = published_documents(**sizes)
        else:
            chosen = sampled_documents(task.name, **sizes)
        return {"samples": {task.name: chosen}}
