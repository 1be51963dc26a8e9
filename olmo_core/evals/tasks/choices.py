"""Multiple choice as lm-eval has it, with the normalisations of the published OLMo figures."""

import ast
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.samplers import FirstNSampler
from lm_eval.api.task import ConfigurableTask
from lm_eval.utils import create_iterator, env

from olmo_core.evals.log_likelihood import LogLikelihood

UNCONDITIONED = "Answer:"  # the context without a question, as AI2's requests have it


class ChoiceTask(ConfigurableTask):
    """A task whose answer is the choice of the highest score; its metrics are four such scores.

    With l(x | c) the log-likelihood of a choice x, the blank before it included, after a context c:
    `acc` takes l(x | c), `acc_per_char` divides it by the characters of x, `acc_per_token` by its
    tokens, and `acc_uncond` is l(x | c) - l(x | "Answer:"). The first of equal scores wins. The
    formulas are those of OLMES (Gu et al. 2024, arXiv 2406.08446, section 3.3).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        known = {key: value for key, value in config.items() if key != "class"}
        # Named here, or lm-eval looks for metrics of these names elsewhere.
        super().__init__(config={**known, "process_results": self.right_by_metric})
        for key, read in (
            ("doc_to_text", _number_or_text),
            ("doc_to_choice", ast.literal_eval),
            ("doc_to_target", _number_or_text),
        ):
            template = self.get_config(key)
            if isinstance(template, str) and template not in self.features:
                self.set_config(key, _compiled(template, read))
        self._before: dict[tuple[Hashable, int], str] = {}

    def group(self, doc: Mapping[str, Any]) -> Hashable:
        """Return what the text before a document's question depends on: here nothing."""
        return None

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Return lm-eval's context; fixed examples are rendered once per group."""
        if not isinstance(getattr(self, "sampler", None), FirstNSampler):
            return super().fewshot_context(doc, num_fewshot, **kwargs)
        questions = self.doc_to_choice(doc) if self.multiple_input else [self.doc_to_text(doc)]
        key = self.group(doc), num_fewshot
        if key not in self._before:
            contexts: Any = super().fewshot_context(doc, num_fewshot, **kwargs)
            whole = contexts[0] if self.multiple_input else contexts
            self._before[key] = whole.removesuffix(questions[0])
        contexts = [self._before[key] + str(question) for question in questions]
        return contexts if self.multiple_input else contexts[0]

    def doc_iterator(
        self,
        *,
        rank: int = 0,
        limit: int | None = None,
        world_size: int = 1,
        samples: list[int] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield the documents with numbers from 0 on; those of `samples` without reading others."""
        if samples is None:
            return super().doc_iterator(rank=rank, limit=limit, world_size=world_size)
        documents: Any = self.eval_docs
        chosen = enumerate(documents.select(sorted(samples)))
        return create_iterator(chosen, rank=rank, limit=limit, world_size=world_size)

    def construct_requests(
        self, doc: dict[str, Any], ctx: str | list[str], **kwargs: Any
    ) -> list[Instance]:
        """Return one request per choice; for `acc_uncond`, then one per choice without question."""
        requests: Any = super().construct_requests(doc, ctx, **kwargs)
        if "acc_uncond" not in self.aggregation():
            return requests
        without = [
            Instance(
                request_type="loglikelihood",
                doc=doc,
                arguments=(UNCONDITIONED, request.args[1]),
                idx=len(requests) + number,
                metadata=kwargs["metadata"],
            )
            for number, request in enumerate(requests)
        ]
        return requests + without

    def right_by_metric(
        self, doc: dict[str, Any], results: Sequence[tuple[float, bool]]
    ) -> dict[str, float]:
        """Return by metric whether the highest score is that of the right choice, 1 or 0."""
        choices = self.doc_to_choice(doc)
        right: Any = self.doc_to_text(doc) if self.multiple_input else self.doc_to_target(doc)
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise ValueError(f"{self.task_name}: {right!r} is no choice of the document {doc}")
        # Where the choices stand in the contexts, one text continues them all.
        texts = [self.doc_to_target(doc)] * len(choices) if self.multiple_input else choices
        scores = self._scores([f"{self.config.target_delimiter}{text}" for text in texts], results)
        return {metric: float(np.argmax(of) == right) for metric, of in scores.items()}

    def _scores(
        self, continuations: Sequence[str], results: Sequence[tuple[float, bool]]
    ) -> dict[str, Any]:
        nats = np.array([value for value, _ in results])
        conditioned, unconditioned = np.split(nats, [len(continuations)])
        scores = {"acc": conditioned}
        if "acc_per_char" in self.aggregation():
            scores["acc_per_char"] = conditioned / np.array([len(text) for text in continuations])
        if "acc_per_token" in self.aggregation():
            scores["acc_per_token"] = conditioned / np.array(
                [_tokens(value) for value, _ in results[: len(continuations)]]
            )
        if len(unconditioned):
            scores["acc_uncond"] = conditioned - unconditioned
        return scores


def _compiled(template: str, read: Callable[[str], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return what renders a template; lm-eval compiles it anew for every document."""
    compiled = env.from_string(template)
    return lambda document: read(compiled.render(**document))


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _tokens(nats: float) -> int:
    if not isinstance(nats, LogLikelihood):
        raise TypeError("acc_per_token needs olmo_core.evals.language_model.LanguageModel")
    return nats.tokens
