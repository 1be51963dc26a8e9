"""lm-eval on an exported model: loaded strictly, offline, one task at a time."""

import logging
import os
import random
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
from olmo_core.evals.held import Held
from olmo_core.evals.language_model import LanguageModel
from olmo_core.evals.sample import published_documents, sampled_documents
from olmo_core.evals.task_documents import TaskScores
from olmo_core.evals.task_samples import metric_name, task_documents
from olmo_core.files import sha256_file

FEWSHOT_SEED = 1234  # lm-eval's own default
BOOTSTRAP_ITERATIONS = 100  # means have a closed form; this bounds the few metrics that have none

_tokenizer = Held[Any]()


class Harness:
    """lm-eval's tasks of the YAML files in a folder, each loaded once for all models.

    Args:
        shadows: The folder.
        loaded: Tasks that a harness of equal files and data has loaded, by name; more are added.
    """

    def __init__(self, shadows: Path, loaded: dict[str, Any] | None = None) -> None:
        datasets.disable_progress_bars()
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._manager = TaskManager(include_path=str(shadows), include_defaults=False)
        self._tasks: dict[str, Any] = {} if loaded is None else loaded

    def load(self, task: TaskConfig) -> Any:
        """Return lm-eval's task; its errors are whatever lm-eval and the task's own code raise."""
        if task.name not in self._tasks:
            loaded: Any = self._manager.load([task.name])["tasks"][task.name]
            loaded.set_config(key="num_fewshot", value=task.num_fewshot)
            _build_requests_once(loaded)
            self._tasks[task.name] = loaded
        return self._tasks[task.name]

    def language_model(self, folder: Path, batch_size: int) -> LanguageModel:
        """Return an exported model as lm-eval's language model, on the GPU if there is one."""
        return LanguageModel(
            pretrained=load_pretrained(folder, device_for_evaluation()),
            tokenizer=_tokenizer.get(
                _tokenizer_files(folder),
                lambda: AutoTokenizer.from_pretrained(folder, local_files_only=True),
            ),
            batch_size=batch_size,
        )

    def score(self, model: LanguageModel, task: TaskConfig, *, sample_seed: int = 0) -> TaskScores:
        """Return the rows of one task and its documents.

        A row is metric, value, stderr, n, truncated and task_version.

        Raises:
            InputError: a document cannot be scored by this model; names it.
        """
        # As lm-eval's own command does before every run.
        random.seed(0)
        np.random.seed(1234)
        torch.manual_seed(1234)
        loaded = self.load(task)
        # The task draws on: a second model would be shown other examples than the first.
        loaded.set_fewshot_seed(seed=FEWSHOT_SEED)
        documents = _documents(task, len(loaded.eval_docs), sample_seed)
        model.begin(documents.get("samples", {}).get(task.name))
        results: Any = evaluate(
            model,
            {"tasks": {task.name: loaded}, "groups": {}},
            **documents,
            bootstrap_iters=BOOTSTRAP_ITERATIONS,
            log_samples=True,
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
                    "metric": metric_name(metric, filtered),
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, int | float) else None,
                    "n": results["n-samples"][task.name]["effective"],
                    "truncated": len(model.cut),
                    "task_version": str(results["versions"][task.name]),
                }
            )
        samples = results["samples"][task.name]
        return {"rows": rows, "documents": task_documents(loaded, samples)}


def _build_requests_once(task: Any) -> None:
    """Have a task of lm-eval ask a further model what it has built for the first one."""
    build, built = task.build_all_requests, None

    def build_once(**arguments: Any) -> None:
        nonlocal built
        if arguments != built:
            built = None
            build(**arguments)
            built = arguments
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}

    task.build_all_requests = build_once


def _tokenizer_files(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a model's folder that may decide its tokenizer."""
    return {
        path.name: sha256_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model")
    }


def _documents(task: TaskConfig, documents: int, seed: int) -> dict[str, Any]:
    """Return which of a split's documents are scored, as an argument of lm-eval's `evaluate`."""
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
