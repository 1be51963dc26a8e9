"""`/`: all experiments in one table."""

from collections.abc import Collection
from pathlib import Path

from pipelines.explorer.experiments import find_experiments, varied
from pipelines.explorer.render import Page
from pipelines.explorer.scores import Scores, columns_of, figure_of

MOST_VALUES = 6  # in which an experiment differs from others, that the table shows


def experiments_page(
    root: Path, scores: Scores, ids: Collection[str] | None = None, side_by_side: str = ""
) -> Page:
    """Return the table of experiments, of some or of all.

    Args:
        root: Of results.
        scores: The store's.
        ids: Of experiments; None: all.
        side_by_side: Address of the page that compares them, which a file cannot make up by itself.
    """
    found = [each for each in find_experiments(root).values() if ids is None or each.id in ids]
    every = scores.models()
    known = {each.id: every.get((each.recipe, each.version, each.asset), []) for each in found}
    columns = [
        column
        for column in columns_of({each.id: known[each.id] for each in found})
        if "/" not in column[1]  # a source's own is on the model's page
    ]
    differences = varied(found)
    rows = [
        {
            "experiment": each,
            "scores": [figure_of(known[each.id], column) for column in columns],
            "differs": dict([*differences[each.id].items()][:MOST_VALUES]),
        }
        for each in found
    ]
    values = {"rows": rows, "columns": columns, "side_by_side": side_by_side}
    values["notes"] = scores.damaged()
    return Page(template="experiments.html", title="Experiments", values=values)
