"""Has a checkpoint become worse than the one before it? Of all results that are kept.

Numpy and duckdb are imported when somebody asks, never with the definitions.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.evals.sweep import KEY, SWEEP, checkpoints
from assets.graph import Graph
from assets.paths import shared_roots
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError

if TYPE_CHECKING:
    from olmo_core.evals.compare.flips import TaskFlips
    from olmo_core.evals.compare.models import Compared, Comparison, Floors
    from olmo_core.evals.compare.paired import Figure

Row = Mapping[str, Any]

LAST_PAIRS = 10  # of each run that a check looks at: it is asked after each evaluation
MOST_SAID = 5  # of these that it names


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The current rows of a recipe's models and checkpoints, and how far seeds put them apart."""

    rows: Mapping[str, Sequence[Row]]  # by model, as in `soup` and `stage1@step100`
    floors: "Floors"
    damaged: Sequence[str]  # what is wrong with each file of the recipe's that could not be read
    graph: Graph

    def pairs(self, last: int | None = None) -> list[tuple[str, str]]:
        """Return the checkpoints that have scores, each after the one before it in its run.

        Args:
            last: Only so many of each run, the last ones; None: all.
        """
        steps: dict[str, list[int]] = {}
        for model in self.rows:
            if match := KEY.fullmatch(model):
                steps.setdefault(match["run"], []).append(int(match["step"]))
        return [
            (f"{run}@step{before}", f"{run}@step{after}")
            for run in self.graph.nodes
            for before, after in [*itertools.pairwise(sorted(steps.get(run, ())))][-(last or 0) :]
        ]

    def compare(self, before: str, after: str) -> "Compared":
        """Return two models side by side.

        Raises:
            ConfigError: one of them has no scores; the nearest name is named.
        """
        from olmo_core.evals.compare.models import compare

        return compare((before, after), *self._rows_of(before, after), self.floors)

    def flips(self, before: str, after: str) -> "tuple[list[TaskFlips], dict[Figure, str]]":
        """Return the documents that one of two models has right, and why there are none of others.

        Raises:
            ConfigError: one of them has no scores; the nearest name is named.
        """
        from olmo_core.evals.compare.flips import flips

        return flips((before, after), *self._rows_of(before, after))

    def _rows_of(self, before: str, after: str) -> tuple[Sequence[Row], Sequence[Row]]:
        for name in (before, after):
            if name not in self.rows:
                raise ConfigError(
                    f"recipe {self.graph.recipe.name}: no scores of a model {name!r}; "
                    f"{nearest(name, self.rows)}"
                )
        return self.rows[before], self.rows[after]


def scores(graph: Graph, root: Path) -> Scores:
    """Return the scores of a recipe's checkpoints, and of its models as evaluated last."""
    from olmo_core.evals.compare.models import seed_floors
    from olmo_core.evals.store.read import IN_LOOP, open_results

    results = open_results(root, shared_roots(root))
    name, found = graph.recipe.name, checkpoints(graph, root)
    kept = results.query(
        "select * from current where evaluated_for = ? and asset <> ? order by asset, task, metric",
        *(name, IN_LOOP),
    )
    last = {row["asset"]: row["finished"] for row in sorted(kept, key=lambda row: row["finished"])}
    rows: dict[str, list[Row]] = {}
    for row in kept:
        model = row["model"]
        if row["asset"] in SWEEP:  # not those of an earlier version of the recipe
            counts = model in found.whole and row["run"] == found.run_of(model)
        else:
            counts = row["finished"] == last[row["asset"]]
        if counts:
            rows.setdefault(model, []).append(row)
    return Scores(
        rows=rows,
        floors=seed_floors(_siblings(graph, rows)),
        damaged=[why for path, why in results.damaged.items() if name in path.parts],
        graph=graph,
    )


def _siblings(graph: Graph, rows: Mapping[str, Sequence[Row]]) -> Iterator[list[Row]]:
    """Yield the rows of models that differ by their seed alone: at their end, and at each step."""
    for group in seed_groups(graph):
        by_step: dict[str, list[Row]] = {}
        for model, found in rows.items():
            run, _, step = model.partition("@")
            if run in group:
                by_step.setdefault(step, []).extend(found)
        yield from by_step.values()


def seed_groups(graph: Graph) -> list[list[str]]:
    """Return the trainings, in groups of at least two, that differ by their seed alone."""
    groups: list[list[str]] = []
    for name, node in graph.nodes.items():
        if not node.distributed:
            continue
        rest = {key: value for key, value in node.config.items() if key != "seed"}
        for group in groups:
            other = graph.nodes[group[0]]
            same = {key: value for key, value in other.config.items() if key != "seed"} == rest
            if same and other.inputs == node.inputs:
                group.append(name)
                break
        else:
            groups.append([name])
    return [group for group in groups if len(group) > 1]


def last_pairs(scores: Scores, asset: str) -> list["Compared"]:
    """Return the last checkpoints of each run side by side, by the figures of one sweep asset."""
    alone = {
        model: of_asset
        for model, rows in scores.rows.items()
        if (of_asset := [row for row in rows if row["asset"] == asset])
    }
    swept = replace(scores, rows=alone)
    return [swept.compare(before, after) for before, after in swept.pairs(LAST_PAIRS)]


def regressions(pairs: Sequence["Compared"]) -> list[str]:
    """Return one line per pair of which a figure became worse, the last pair first."""
    return [
        f"{pair.after} is worse than {pair.before}: {'; '.join(map(figure_text, worse))}"
        for pair in reversed(pairs)
        if (worse := pair.of("worse"))
    ]


def figure_text(figure: "Comparison") -> str:
    """Return a figure of two models as one reads it."""
    change = figure.difference
    text = (
        f"{figure.task} {figure.metric} {figure.before:.4g} → {figure.after:.4g} "
        f"(95% {change.low:+.3g} to {change.high:+.3g}, p {figure.p_adjusted:.2g}"
    )
    if figure.not_paired is not None:
        text += ", of standard errors"
    if figure.floor is not None:
        text += f"; {figure.floor.models} seeds lie {figure.floor.spread:.2g} apart"
    return f"{text})"
