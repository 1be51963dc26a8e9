"""Draw the documents behind a figure for both models at once: of texts, tasks, and what suites make
of tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo_core.errors import InputError
from olmo_core.evals.compare.difference import (
    SEED,
    Difference,
    drawn_sums,
    of_draws,
    paired_bootstrap,
)
from olmo_core.evals.compare.documents import Answers, NotKept, read_answers, read_scored
from olmo_core.evals.suites import BEST, MEAN, SUITES, entries, suite

LEAST_DOCUMENTS = 10  # of fewer, no statistic tells chance from difference
Row = Mapping[str, Any]  # of the store
Figure = tuple[str, str]  # task, metric
Side = Mapping[Figure, Row]  # all figures of a model
_EQUAL = 1e-9  # relative: a figure and what a suite makes it of


def difference_of_texts(before: Row, after: Row) -> Difference:
    """Return the difference of bits per byte of a set, or of a source of it.

    Raises:
        InputError: the documents are not there, others, or too few.
    """
    sides = read_scored(before), read_scored(after)
    require_same(sides[0].facts, sides[1].facts)
    require_enough(len(sides[0].bytes))
    return paired_bootstrap(sides[1].bits - sides[0].bits, sides[0].bytes)


def difference_of_answers(figure: Figure, before: Side, after: Side) -> Difference:
    """Return the difference of a downstream figure.

    Raises:
        NotKept: there are no documents that make it.
        InputError: they are not the same documents for both models.
    """
    draws = _draws(figure, (before, after), SEED)
    return of_draws(after[figure]["value"] - before[figure]["value"], draws.change, draws.documents)


def require_same(before: Any, after: Any) -> None:
    """Refuse documents that differ in their facts.

    Raises:
        InputError: they do.
    """
    if not before.equals(after):
        raise InputError("they were scored on other documents")


def require_enough(documents: int) -> None:
    """Refuse too few documents.

    Raises:
        InputError: there are fewer than `LEAST_DOCUMENTS`.
    """
    if documents < LEAST_DOCUMENTS:
        raise InputError(f"{documents} documents; expected at least {LEAST_DOCUMENTS}")


def made_of(figure: Figure) -> list[Figure]:
    """Return the figures of which a suite makes one: the best or the mean; none: it is a task's."""
    task, metric = figure
    if metric == BEST and task in entries():
        return [*entries()[task].metrics(task).items()]
    if metric == MEAN:
        for name in SUITES:
            averages = {f"{name}_core": suite(name).core, f"{name}_all": suite(name).tasks}
            if task in averages:
                return [(each, entries()[each].metric or BEST) for each in averages[task]]
    return []


@dataclass(frozen=True, kw_only=True, eq=False)
class _Draws:
    change: NDArray[np.float64]  # of the figure, in each resample
    documents: int  # that were drawn from


def _draws(figure: Figure, sides: tuple[Side, Side], seed: int) -> _Draws:
    """Return what a figure's difference is in each resample of its documents.

    The members of a mean are tasks with documents of their own, drawn apart. The forms of a task
    ask about the same documents, drawn once for all; in each resample a model is taken at its best.
    """
    parts = made_of(figure)
    require_parts(figure, parts, sides)
    if parts and figure[1] == MEAN:
        members = [_draws(part, sides, seed + n) for n, part in enumerate(parts, start=1)]
        return _Draws(
            change=np.mean([member.change for member in members], axis=0),
            documents=sum(member.documents for member in members),
        )
    forms = [[read_answers(side[part]) for part in parts or [figure]] for side in sides]
    for one, other in zip(*forms, strict=True):
        require_same(one.facts, other.facts)
    _require_same_documents(forms[0])
    values = [[form.values for form in of_side] for of_side in forms]
    n = len(values[0][0])
    if len(values[0]) == 1:  # the change alone: what is equal for both is 0 to the last bit
        change = drawn_sums(np.subtract(values[1], values[0]), seed=seed)[0]
    else:
        before, after = np.split(drawn_sums(np.concatenate(values), seed=seed), 2)
        change = after.max(axis=0) - before.max(axis=0)
    return _Draws(change=change / n, documents=n)


def require_parts(figure: Figure, parts: Sequence[Figure], sides: tuple[Side, Side]) -> None:
    """Refuse a figure that is not made of what the suites of today say.

    Raises:
        NotKept: it is not.
    """
    for side in sides if parts else ():
        for part in parts:
            if part not in side:
                raise NotKept(f"{' '.join(part)} is not there, of which it is made")
        values = [side[part]["value"] for part in parts]
        made = max(values) if figure[1] == BEST else sum(values) / len(values)
        if not math.isclose(made, side[figure]["value"], rel_tol=_EQUAL):
            raise NotKept(f"it is not the {figure[1]} of the tasks of its suite, as it is now")


def _require_same_documents(forms: Sequence[Answers]) -> None:
    """Refuse forms of a task that ask about other documents; their prompts are their own."""
    names = ["document", "document_digest"]
    for form in forms[1:]:
        require_same(forms[0].facts.select(names), form.facts.select(names))
