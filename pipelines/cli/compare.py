"""`olmo compare`: two models, or each checkpoint and the one before it, side by side."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from assets.assemble import build_graph
from assets.evals.regression import scores
from assets.paths import root
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from pipelines.cli.terminal import print_json, table, terminal

if TYPE_CHECKING:
    from olmo_core.evals.compare.models import Compared, Comparison

COLUMNS = ("task", "metric", "before", "after", "change", "95% interval", "p", "seeds", "verdict")

METHOD = (
    "10,000 resamples of the documents, the same for both models; where none are kept, standard "
    "errors, as if each model had been asked other documents. p: of all figures of two models "
    "together (Holm). Seeds: how far models lie apart that differ by their seed alone. Better or "
    "worse: p at most 0.05, and further apart than seeds."
)


def print_comparison(recipe: str, models: Sequence[str], *, as_json: bool) -> int:
    """Print two models side by side, or all successive checkpoints; JSON is a list of figures.

    Returns the exit code: 1 if a figure became worse.

    Raises:
        ConfigError: an unknown recipe or model, or one model alone.
    """
    if len(models) not in (0, 2):
        raise ConfigError(f"found {len(models)} model; expected two, or none: all checkpoints")
    found = scores(build_graph(load_recipe(recipe)), root())
    for why in found.damaged:
        print(f"olmo: left out: {why}", file=sys.stderr)
    pairs = [(models[0], models[1])] if models else found.pairs()
    if not pairs and not as_json:
        known = ", ".join(found.rows) or "none"
        print(f"{recipe}: no two checkpoints of a run have scores; models with scores: {known}")
    compared = [found.compare(before, after) for before, after in pairs]
    if as_json:
        print_json([figure for each in compared for figure in entries(each)])
    else:
        console = terminal()
        for each in compared:
            print_compared(console, each)
        if compared:
            console.print(METHOD, markup=False)
    return int(any(each.of("worse") for each in compared))


def print_compared(console: Console, compared: "Compared") -> None:
    """Print the figures of two models as a table, and why others are not in it."""
    title = f"{compared.before} → {compared.after}"
    rows = [_cells(figure) for figure in compared.figures]
    console.print(table(COLUMNS, rows, right=COLUMNS[2:8], title=title))
    for why, figures in compared.not_paired.items():
        names = ", ".join(f"{figure.task} {figure.metric}" for figure in figures)
        console.print(f"by standard errors: {names}: {why}", markup=False)
    for (task, metric), why in compared.not_compared.items():
        console.print(f"not compared: {task} {metric}: {why}", markup=False)


def _cells(figure: "Comparison") -> list[str]:
    change = figure.difference
    return [
        figure.task,
        figure.metric,
        f"{figure.before:.4g}",
        f"{figure.after:.4g}",
        f"{change.value:+.3g}",
        f"{change.low:+.3g} to {change.high:+.3g}",
        f"{figure.p_adjusted:.2g}",
        "" if figure.floor is None else f"{figure.floor.spread:.2g} ({figure.floor.models})",
        figure.verdict,
    ]


def entries(compared: "Compared") -> list[dict[str, Any]]:
    """Return one object per figure, and one per figure that was not compared."""
    names: dict[str, Any] = {"before": compared.before, "after": compared.after}
    return [
        {
            **names,
            "task": figure.task,
            "metric": figure.metric,
            "value_before": figure.before,
            "value_after": figure.after,
            "change": figure.difference.value,
            "low": figure.difference.low,
            "high": figure.difference.high,
            "p": figure.difference.p,
            "p_adjusted": figure.p_adjusted,
            "documents_drawn": figure.difference.n,
            "not_paired": figure.not_paired,
            "seed_spread": figure.floor.spread if figure.floor else None,
            "seeds": figure.floor.models if figure.floor else None,
            "verdict": figure.verdict,
        }
        for figure in compared.figures
    ] + [
        {**names, "task": task, "metric": metric, "verdict": "not compared", "why": why}
        for (task, metric), why in compared.not_compared.items()
    ]
