"""A label of OLMo's in-loop evaluators as a task of lm-eval: `in_loop_<label>`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from olmo_core.evals.in_loop.labels import TASK, labels
from olmo_core.evals.in_loop.prompts import questions

Results = Sequence[tuple[float, bool]]


class LabelTask(ConfigurableTask):
    """A task of one figure; its documents are `prompts.questions` of its label.

    Figures are those of OLMo's trainer, whose lengths leave out the blank before an answer:
    `acc` is right where the right answer has the highest log-likelihood, `len_norm` where it has
    per character; `f1` is that of the first answer; `ce_loss` is nats per character, `bpb` bits per
    UTF-8 byte of the right answer. The first of equal scores wins.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._label = labels()[str(config["task"]).removeprefix(TASK)]
        metric = self._label.metric
        known = {key: value for key, value in config.items() if key != "class"}
        entry = {
            "metric": metric,
            "aggregation": _f1 if metric == "f1" else "mean",
            "higher_is_better": metric not in ("ce_loss", "bpb"),
        }
        given = {"metric_list": [entry], "process_results": self.figure_of}
        super().__init__(config={**known, **given})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Build the documents from the installed wheel."""
        rows = [asdict(question) for question in questions(self._label)]
        self.dataset = datasets.DatasetDict({"validation": datasets.Dataset.from_list(rows)})

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Return the first context; examples, if any, stand in it."""
        return doc["contexts"][0]

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **kwargs: Any) -> list[Instance]:
        """Return one request per answer, each after its own context."""
        return [
            Instance(
                request_type="loglikelihood",
                doc=doc,
                arguments=(context, choice),
                idx=number,
                metadata=kwargs["metadata"],
            )
            for number, (context, choice) in enumerate(
                zip(doc["contexts"], doc["choices"], strict=True)
            )
        ]

    def figure_of(self, doc: Mapping[str, Any], results: Results) -> dict[str, Any]:
        """Return a document's part of the figure."""
        nats = np.array([value for value, _ in results])
        metric, right = self._label.metric, doc["right"]
        answers = [choice[1:] for choice in doc["choices"]]
        if metric == "len_norm":
            return {metric: float(np.argmax(nats / [len(each) for each in answers]) == right)}
        if metric == "ce_loss":
            return {metric: -nats[right] / len(answers[right])}
        if metric == "bpb":
            return {metric: -nats[right] / len(answers[right].encode()) / math.log(2)}
        likeliest = int(np.argmax(nats))
        return {metric: (right, likeliest) if metric == "f1" else float(likeliest == right)}


def _f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Return F1 of the first answer, of pairs of the right and the likeliest one; 0 without any."""
    hits = sum(right == likeliest == 0 for right, likeliest in pairs)
    said = sum(right == 0 for right, _ in pairs) + sum(likeliest == 0 for _, likeliest in pairs)
    return 2 * hits / said if said else 0.0
