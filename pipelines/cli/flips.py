"""`olmo compare --documents`: which documents one of two models has right, and the other wrong."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from assets.assemble import build_graph
from assets.evals.regression import scores
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.texts import visible_line
from olmo_core.errors import ConfigError
from pipelines.cli.terminal import print_json, table, terminal

if TYPE_CHECKING:
    from olmo_core.evals.compare.flips import Flip, TaskFlips

TO_WRONG, TO_RIGHT = "right → wrong", "wrong → right"
COUNTS = ("task", "metric", "documents", "right before", "right after", TO_WRONG, TO_RIGHT)
COLUMNS = ("document", "question", "right answer", "before", "after")
MOST_SHOWN = 10  # documents of a task, each way
MOST_CHARACTERS = 80  # of each text


def print_flips(recipe: str, models: Sequence[str], *, as_json: bool) -> int:
    """Print the documents of each task that one of two models has right, and return exit code 0.

    JSON has all of them.

    Raises:
        ConfigError: an unknown recipe or model, or not two models.
    """
    if len(models) != 2:
        raise ConfigError(f"--documents: found {len(models)} models; expected two")
    before, after = models
    known = scores(build_graph(load_recipe(recipe)), root())
    for why in known.damaged:
        print(f"olmo: left out: {why}", file=sys.stderr)
    found, left_out = known.flips(before, after)
    if as_json:
        names = {"before": before, "after": after}
        print_json(
            [{**names, **asdict(each)} for each in found]
            + [
                {**names, "task": task, "metric": metric, "why": why}
                for (task, metric), why in left_out.items()
            ]
        )
        return 0
    console = terminal()
    rows = [_counts(each) for each in found]
    console.print(table(COUNTS, rows, right=COUNTS[2:], title=f"{before} → {after}"))
    for each in found:
        for title, flips in ((TO_WRONG, each.right_to_wrong), (TO_RIGHT, each.wrong_to_right)):
            _print(console, f"{each.task} {each.metric}: {title}", flips)
    for (task, metric), why in left_out.items():
        console.print(f"not shown: {task} {metric}: {why}", markup=False)
    return 0


def _print(console: Console, title: str, flips: "Sequence[Flip]") -> None:
    if not flips:
        return
    made = table(COLUMNS, (), right=COLUMNS[:1], title=title)
    for flip in flips[:MOST_SHOWN]:
        texts = (flip.question, flip.target, flip.before, flip.after)
        made.add_row(str(flip.document), *map(shown, texts))
    console.print(made)
    if len(flips) > MOST_SHOWN:
        console.print(f"… and {len(flips) - MOST_SHOWN:,} more; --json has all")


def _counts(each: "TaskFlips") -> list[str]:
    numbers = (each.documents, each.right_before, each.right_after)
    both = (len(each.right_to_wrong), len(each.wrong_to_right))
    return [each.task, each.metric, *(f"{number:,}" for number in (*numbers, *both))]


def shown(text: str | None) -> Text:
    """Return the beginning of a text on one line; what a terminal would obey is written out."""
    line = " ".join((text or "").split())
    beginning = line[:MOST_CHARACTERS] + "…" * (len(line) > MOST_CHARACTERS)
    return Text(visible_line(beginning))
