"""Compare the scores of two models: task by task, beyond chance and beyond what a seed changes.

Only what was asked in the same way is compared; everything else is named, with the reason.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from olmo_core.errors import InputError
from olmo_core.evals.compare.difference import Difference, holm, of_standard_errors
from olmo_core.evals.compare.documents import NotKept
from olmo_core.evals.compare.paired import (
    Figure,
    Row,
    Side,
    difference_of_answers,
    difference_of_texts,
    require_enough,
)

LEVEL = 0.05  # that all comparisons of two models together may be false alarms
BITS = "bits_per_byte"
# Parts of metrics' names.
LOWER_IS_BETTER = ("bits_per_byte", "bpb", "loss", "perplexity", "brier_score")

# What of a task's definition a row says in words; the rest of it is prompts and code.
DEFINITION = (
    *("task_version", "split", "num_fewshot", "limit", "limit_to", "sample_seed"),
    "data_sha256",
)


@dataclass(frozen=True, kw_only=True)
class SeedFloor:
    """How far models lie apart that differ by their seed alone."""

    spread: float  # the largest score minus the smallest
    models: int  # so many


Floors = Mapping[tuple[str, str], SeedFloor]  # task_sha256, metric


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure of two models."""

    task: str
    metric: str
    before: float
    after: float
    difference: Difference
    p_adjusted: float  # over all figures of the two models, by Holm
    floor: SeedFloor | None  # None: no two models differ by their seed alone
    not_paired: str | None  # why it is of standard errors; None: documents were drawn

    @property
    def verdict(self) -> Literal["better", "worse", "within seeds", "no difference"]:
        """Return what is to be thought of it, at `LEVEL`."""
        if self.p_adjusted > LEVEL:
            return "no difference"
        if self.floor is not None and abs(self.difference.value) <= self.floor.spread:
            return "within seeds"
        lower = any(part in self.metric for part in LOWER_IS_BETTER)
        return "better" if (self.difference.value < 0) == lower else "worse"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two models: what was compared, and why the rest was not."""

    before: str
    after: str
    figures: Sequence[Comparison]
    not_compared: Mapping[Figure, str]

    @property
    def not_paired(self) -> dict[str, list[Comparison]]:
        """Return the figures that are of standard errors, by the reason why."""
        found: dict[str, list[Comparison]] = {}
        for each in self.figures:
            if each.not_paired is not None:
                found.setdefault(each.not_paired, []).append(each)
        return found

    def of(self, verdict: str) -> list[Comparison]:
        """Return the figures of a verdict."""
        return [each for each in self.figures if each.verdict == verdict]


def compare(
    names: tuple[str, str], before: Sequence[Row], after: Sequence[Row], floors: Floors
) -> Compared:
    """Return the figures of two models side by side.

    Args:
        names: Of the models.
        before: Rows of the store, of one model; each figure once.
        after: The same of the other.
        floors: What `seed_floors` returns.
    """
    sides = by_figure(before), by_figure(after)
    found: list[Comparison] = []
    figures, why = shown_figures(names, *sides)
    for figure in figures:
        rows = [side[figure] for side in sides]
        try:
            difference, not_paired = _difference(figure, *sides)
        except InputError as error:
            why[figure] = str(error)
            continue
        found.append(
            Comparison(
                task=figure[0],
                metric=figure[1],
                before=rows[0]["value"],
                after=rows[1]["value"],
                difference=difference,
                p_adjusted=difference.p,
                floor=floors.get((rows[0]["task_sha256"], figure[1])),
                not_paired=not_paired,
            )
        )
    adjusted = holm([each.difference.p for each in found])
    figures = [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]
    return Compared(before=names[0], after=names[1], figures=figures, not_compared=why)


def seed_floors(groups: Iterable[Sequence[Row]]) -> dict[tuple[str, str], SeedFloor]:
    """Return how far apart seeds alone put a figure: of several groups, the widest.

    Args:
        groups: Rows of models that differ by their seed alone.
    """
    floors: dict[tuple[str, str], SeedFloor] = {}
    for rows in groups:
        values: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            values.setdefault((row["task_sha256"], row["metric"]), []).append(row["value"])
        for key, found in values.items():
            floor = SeedFloor(spread=max(found) - min(found), models=len(found))
            if len(found) > 1 and (key not in floors or floor.spread > floors[key].spread):
                floors[key] = floor
    return floors


def by_figure(rows: Iterable[Row]) -> Side:
    """Return the rows of a model by task and metric."""
    return {(row["task"], row["metric"]): row for row in rows}


def shown_figures(
    names: tuple[str, str], before: Side, after: Side
) -> tuple[list[Figure], dict[Figure, str]]:
    """Return the figures that count and both models have, and why the others are left out."""
    sides = before, after
    shown = [figure for side in sides for figure, row in side.items() if _is_shown(row)]
    why = {
        figure: f"{name} was not scored on it"
        for name, side in zip(names, sides, strict=True)
        for figure in dict.fromkeys(shown)
        if figure not in side
    }
    return [figure for figure in dict.fromkeys(shown) if figure not in why], why


def _is_shown(row: Row) -> bool:
    """Return whether a row counts: a suite's headline, all of other tasks, bits of a set or source.

    The further metrics of a task are other views of the same answers.
    """
    if is_perplexity(row):
        return row["metric"] == BITS and row["task"].count("/") <= 1
    return row["headline"] is not False


def is_perplexity(row: Row) -> bool:
    """Return whether a row is of texts, not of a task."""
    return row["asset"].endswith("perplexity")


def _difference(figure: Figure, before: Side, after: Side) -> tuple[Difference, str | None]:
    """Return the difference of a figure, and why it is of standard errors where it is.

    Raises:
        InputError: it cannot be compared; says why.
    """
    rows = before[figure], after[figure]
    require_same_task(*rows)
    if is_perplexity(rows[0]):
        return difference_of_texts(*rows), None
    require_enough(min(row["n"] for row in rows))
    try:
        return difference_of_answers(figure, before, after), None
    except NotKept as error:
        (value, stderr), (value_after, stderr_after) = (
            (row["value"], row["stderr"]) for row in rows
        )
        if stderr is None or stderr_after is None:
            raise InputError(f"no standard error of its own, and {error}") from None
        return of_standard_errors((value, stderr), (value_after, stderr_after)), str(error)


def require_same_task(before: Row, after: Row) -> None:
    """Refuse figures of a task that was asked otherwise.

    Raises:
        InputError: it was; says how.
    """
    if before["task_sha256"] != after["task_sha256"]:
        raise InputError(f"not asked in the same way: {', '.join(_changes(before, after))}")


def _changes(before: Row, after: Row) -> Iterator[str]:
    """Yield in what the definitions of a task differ."""
    changed = [name for name in DEFINITION if before[name] != after[name]]
    for name in changed:
        values = [str(row[name]) for row in (before, after)]
        short = [value[:12] for value in values] if name.endswith("sha256") else values
        yield f"{name} {short[0]} → {short[1]}"
    if not changed:
        yield "other prompts, examples or code behind them"
