"""The documents of a task from lm-eval's samples: what each was asked, answered, and got."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from olmo_core.evals.task_documents import TaskDocuments

DIGEST_LENGTH = 16  # of a SHA-256
MOST_KEPT = 160  # characters of a question

Sample = Mapping[str, Any]
Results = Sequence[tuple[float, bool]]  # nats, and whether it is the likeliest text


def metric_name(metric: str, filtered: str) -> str:
    """Return the name of a row's metric: lm-eval's, with its filter where that does anything."""
    return metric if filtered == "none" else f"{metric}/{filtered}"


def task_documents(task: Any, samples: Sequence[Sample]) -> TaskDocuments:
    """Return the documents of lm-eval's samples of one task, each once.

    Args:
        task: lm-eval's, that was asked.
        samples: As `evaluate` returns them: all documents, once per filter.
    """
    first = samples[0]["filter"]
    asked = [sample for sample in samples if sample["filter"] == first]
    documents: TaskDocuments = {
        "document": [sample["doc_id"] for sample in asked],
        "target": [_target(task, sample) for sample in asked],
        "question": [_question(task, sample["doc"])[:MOST_KEPT] for sample in asked],
        "document_digest": [sample["doc_hash"][:DIGEST_LENGTH] for sample in asked],
        "prompt_digest": [_digest(sample["arguments"]) for sample in asked],
        "values": {},
        "answers": {},
    }
    means = {metric for metric, aggregate in task.aggregation().items() if aggregate is mean}
    values, answers = documents["values"], documents["answers"]
    place = {number: at for at, number in enumerate(documents["document"])}
    for sample in samples:
        answered = _answers(task, sample)
        for metric in sample["metrics"]:
            name, at = metric_name(metric, sample["filter"]), place[sample["doc_id"]]
            if metric in means:
                values.setdefault(name, [None] * len(asked))[at] = float(sample[metric])
            answers.setdefault(name, [None] * len(asked))[at] = answered.get(metric)
    for name in answers:
        values.setdefault(name, [None] * len(asked))
    return documents


def _digest(asked: Any) -> str:
    text = json.dumps(asked, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _question(task: Any, document: Any) -> str:
    """Return what is asked of a document, without examples that lm-eval puts before it."""
    text = task.doc_to_text(document)
    # Where the choices stand in the contexts, the text is the number of the right one.
    return str(text if isinstance(text, str) else task.doc_to_choice(document)[0]).strip()


def _target(task: Any, sample: Sample) -> str | None:
    """Return the right answer as a text; None where there are several."""
    document, target = sample["doc"], sample["target"]
    if _has_choices(task):
        if task.multiple_input:
            target = task.doc_to_text(document)
        choices = task.doc_to_choice(document)
        if isinstance(target, int):
            return choices[target].strip() if 0 <= target < len(choices) else None
    return target.strip() if isinstance(target, str) else None


def _answers(task: Any, sample: Sample) -> dict[str, str]:
    """Return by metric the answer that it takes for the model's, where it is known to take one.

    Of multiple choice, the choice of the highest score; of what is generated, all of it.
    """
    if _has_choices(task):
        document = sample["doc"]
        choices = [str(choice).strip() for choice in task.doc_to_choice(document)]
        scores = _scores(task, document, sample["filtered_resps"])
        return {metric: choices[int(np.argmax(of))] for metric, of in scores.items()}
    text = sample["filtered_resps"][0]
    if task.OUTPUT_TYPE == "generate_until" and isinstance(text, str):
        return dict.fromkeys(sample["metrics"], text)
    return {}


def _has_choices(task: Any) -> bool:
    return isinstance(task, ConfigurableTask) and task.OUTPUT_TYPE == "multiple_choice"


def _scores(task: Any, document: Any, results: Results) -> dict[str, Any]:
    """Return by metric the scores of which a task of choices takes the highest; some are unused."""
    choices = task.doc_to_choice(document)
    if isinstance(getattr(task, "right_by_metric", None), MethodType):
        # A method of `tasks.choices`, whose code is part of what a task asks. Making it public
        # would be other code, with which figures of before do not compare.
        texts = [task.doc_to_target(document)] * len(choices) if task.multiple_input else choices
        scores = task._scores([f"{task.config.target_delimiter}{text}" for text in texts], results)
        return {**scores, "acc_macro": scores["acc"]}
    scored_by = task.config.process_results
    of_label = isinstance(scored_by, MethodType) and scored_by.__self__ is task
    by_lm_eval = type(task).process_results is ConfigurableTask.process_results
    if not by_lm_eval or (callable(scored_by) and not of_label):
        return {}  # only the function that scores knows
    nats = np.array([value for value, _ in results])
    conditioned, unconditioned = np.split(nats, [len(choices)])
    if of_label:  # `in_loop.task`
        without_blank = [len(choice[1:]) for choice in choices]
        return {"acc": conditioned, "f1": conditioned, "len_norm": conditioned / without_blank}
    scores = {
        "acc": conditioned,
        "acc_norm": conditioned / [float(len(choice)) for choice in choices],
        "acc_bytes": conditioned / [float(len(choice.encode())) for choice in choices],
    }
    if len(unconditioned) == len(choices):
        scores["acc_mutual_info"] = conditioned - unconditioned
    return scores
