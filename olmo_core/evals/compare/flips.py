"""The documents that one of two models has right and the other wrong, task by task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olmo_core.errors import InputError
from olmo_core.evals.compare.documents import Answers, read_answers
from olmo_core.evals.compare.models import (
    by_figure,
    is_perplexity,
    require_same_task,
    shown_figures,
)
from olmo_core.evals.compare.paired import Figure, Row, made_of, require_parts, require_same
from olmo_core.evals.suites import MEAN


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A document that one of two models has right."""

    document: int  # its number in the split
    question: str  # its beginning
    target: str | None
    before: str | None  # the answers, where the metric takes one
    after: str | None


@dataclass(frozen=True, kw_only=True)
class TaskFlips:
    """What two models have right of one task, by one metric."""

    task: str
    metric: str
    documents: int
    right_before: int
    right_after: int
    right_to_wrong: Sequence[Flip]
    wrong_to_right: Sequence[Flip]


def flips(
    names: tuple[str, str], before: Sequence[Row], after: Sequence[Row]
) -> tuple[list[TaskFlips], dict[Figure, str]]:
    """Return which answers two models have otherwise, and why there is nothing of other tasks.

    Of a suite's task the headline counts, of the better of two forms each form. A suite's means and
    perplexity have no answers.

    Args:
        names: Of the models.
        before: Rows of the store, of one model; each figure once.
        after: The same of the other.
    """
    sides = by_figure(filter(_has_answers, before)), by_figure(filter(_has_answers, after))
    figures, why = shown_figures(names, *sides)
    found: list[TaskFlips] = []
    for shown in figures:
        parts = made_of(shown)
        for figure in parts or [shown]:
            try:
                require_same_task(*(side[shown] for side in sides))
                require_parts(shown, parts, sides)
                found.append(_flips(figure, *(read_answers(side[figure]) for side in sides)))
            except InputError as error:
                why[figure] = str(error)
    return found, why


def _has_answers(row: Row) -> bool:
    return not is_perplexity(row) and not (
        row["metric"] == MEAN and made_of((row["task"], row["metric"]))
    )


def _flips(figure: Figure, before: Answers, after: Answers) -> TaskFlips:
    require_same(before.facts, after.facts)
    right = _right(before), _right(after)
    if right[0] is None or right[1] is None:
        raise InputError("its documents are not right or wrong")
    return TaskFlips(
        task=figure[0],
        metric=figure[1],
        documents=len(before.values),
        right_before=int(right[0].sum()),
        right_after=int(right[1].sum()),
        right_to_wrong=_chosen(right[0] & ~right[1], before, after),
        wrong_to_right=_chosen(~right[0] & right[1], before, after),
    )


def _right(answers: Answers) -> NDArray[np.bool_] | None:
    """Return whether each document is right; None where the metric has more than these two.

    A mean with weights, as that over subjects, has a weight for what is right, and 0.
    """
    right = answers.values > 0
    if np.isin(answers.values, (0, 1)).all():
        return right
    targets = answers.facts["target"].to_pylist()
    pairs = zip(answers.answers.to_pylist(), targets, strict=True)
    said = np.array([None not in pair and pair[0] == pair[1] for pair in pairs])
    return right if (said == right).all() else None


def _chosen(which: NDArray[np.bool_], before: Answers, after: Answers) -> list[Flip]:
    facts = before.facts
    return [
        Flip(
            document=facts["document"][place].as_py(),
            question=before.questions[place].as_py(),
            target=facts["target"][place].as_py(),
            before=before.answers[place].as_py(),
            after=after.answers[place].as_py(),
        )
        for place in np.flatnonzero(which).tolist()
    ]
