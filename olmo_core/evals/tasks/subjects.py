"""MMLU: multiple choice in 57 subjects, each with examples of its own."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance

from olmo_core.evals.tasks.choices import ChoiceTask


class SubjectTask(ChoiceTask):
    """A choice task whose documents name a `subject`: its examples are of that subject.

    `acc` is over all documents (micro), `acc_macro` is the mean of the subjects' accuracies. For
    the latter each document counts N / (S n), with N documents in all and n of its subject, one of
    S; its standard error is that of the mean of these.
    """

    def group(self, doc: Mapping[str, Any]) -> Hashable:
        """Return the subject, which the text before the question is of."""
        return doc["subject"]

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Return the context with the first examples of the document's subject."""
        if num_fewshot:
            of = [each for each in self.examples if each["subject"] == doc["subject"]]
            self.sampler.replace_df(of)
        return super().fewshot_context(doc, num_fewshot, **kwargs)

    @property
    def examples(self) -> Sequence[dict[str, Any]]:
        """The examples of all subjects."""
        if not self._examples:
            self._examples = list(self.fewshot_docs() or ())
        return self._examples

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._examples: list[dict[str, Any]] = []
        self._asked: Counter[str] = Counter()
        super().__init__(config)

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests, and count the documents of each subject among them."""
        super().build_all_requests(**kwargs)
        instances: list[Instance] = self._instances or []
        self._asked = Counter(each.doc["subject"] for each in instances if each.idx == 0)

    def right_by_metric(
        self, doc: dict[str, Any], results: Sequence[tuple[float, bool]]
    ) -> dict[str, float]:
        """Return 1 or 0, for `acc_macro` times the document's weight."""
        right = super().right_by_metric(doc, results)
        subjects, documents = len(self._asked), self._asked.total()
        weight = documents / (subjects * self._asked[doc["subject"]])
        return {**right, "acc_macro": right["acc"] * weight}
