"""`/`: all experiments in one table."""

from pathlib import Path

from pipelines.explorer.experiments import find_experiments, varied
from pipelines.explorer.render import Page
from pipelines.explorer.scores import Scores, columns_of, figure_of

MOST_VALUES = 6  # in which an experiment differs from others, that the table shows


def experiments_page(root: Path, scores: Scores, recipe: str | None = None) -> Page:
    """Return the table of experiments, of one recipe or of all."""
    found = [
        each for each in find_experiments(root).values() if recipe is None or each.recipe == recipe
    ]
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
    title = "Experiments" if recipe is None else f"Experiments of {recipe}"
    return Page(template="experiments.html", title=title, values={"rows": rows, "columns": columns})
