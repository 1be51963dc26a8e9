"""A table of the models of one or several recipes, with published ones beside them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.evals.figures import checkpoint_evaluations, figures, model_evaluations
from assets.graph import Graph
from olmo_core.config.evals import LeaderboardConfig
from olmo_core.evals.columns import (
    CHANCE,
    MARK,
    Column,
    downstream_columns,
    perplexity_columns,
)
from olmo_core.evals.published import published_tables
from olmo_core.evals.released import is_released
from olmo_core.evals.store.read import Results

OTHER = "‡"  # of a score that was asked otherwise than the first in its column
PUBLISHED = "published"  # what is shown in place of a recipe
METRICS = """
select task, metric, headline, asset from rows
where evaluation in (select unnest($evaluations::varchar[]))
group by all order by min(position)
"""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A line of the table: whose it is, and its figures by task and metric."""

    recipe: str  # whose leaderboard it is of, or `PUBLISHED`
    name: str
    tokens: int | None  # behind the weights, with all that their run began from; None: not known
    own_tokens: int | None  # of that run, as its counter has them
    figures: dict[tuple[str, str], Row] = field(default_factory=dict[tuple[str, str], Row])


@dataclass(frozen=True, kw_only=True)
class Board:
    """The table: columns, lines, and what is to be said below it."""

    columns: Sequence[Column]
    models: Sequence[Model]
    notes: Sequence[str]

    def text(self, model: Model, column: Column) -> str:
        """Return a figure with its standard error and marks; empty if there is none."""
        _, task, metric = column
        row = model.figures.get((task, metric))
        if row is None:
            return ""
        error = "" if row["stderr"] is None else f" ± {row['stderr']:.3f}"
        cut = f" {MARK}" if row.get("truncated") else ""
        return f"{row['value']:.3f}{error}{cut}{f' {OTHER}' if row.get('other') else ''}"


def evaluations(
    graph: Graph, results: Results, root: Path, *, checkpoints: bool
) -> tuple[list[str], list[str]]:
    """Return the evaluations that count for a recipe, and notes."""
    chosen, notes = model_evaluations(graph, results, root)
    return chosen + (checkpoint_evaluations(graph, results) if checkpoints else []), notes


def columns_of(
    graphs: Sequence[Graph], results: Results, chosen: Mapping[str, Sequence[str]]
) -> list[Column]:
    """Return the columns of some recipes' leaderboards: title, task, metric. Perplexity is first.

    Args:
        graphs: Of the recipes.
        results: The store.
        chosen: The evaluations that count, by recipe.

    Raises:
        ConfigError: a task lacks the metric that the recipe wants to see.
    """
    perplexity: list[Column] = []
    downstream: list[Column] = []
    for graph in graphs:
        config = graph.recipe.section("evals", "leaderboard", LeaderboardConfig)
        found = results.query(METRICS, evaluations=list(chosen[graph.recipe.name]))
        of_sets = [row["asset"].endswith("perplexity") for row in found]
        perplexity += perplexity_columns([*itertools.compress(found, of_sets)])
        tasks = [row for row, of_set in zip(found, of_sets, strict=True) if not of_set]
        downstream += downstream_columns(tasks, config)
    return _titled(dict.fromkeys(perplexity + downstream))


def make_board(
    graphs: Sequence[Graph], results: Results, root: Path, *, checkpoints: bool
) -> Board:
    """Return the table of some recipes, one below the other, then of published models."""
    notes: list[str] = []
    chosen: dict[str, list[str]] = {}
    for graph in graphs:
        found, said = evaluations(graph, results, root, checkpoints=checkpoints)
        chosen[graph.recipe.name] = found
        notes += said
    columns = columns_of(graphs, results, chosen)
    shown = [(task, metric) for _, task, metric in columns]
    models: list[Model] = []
    for graph in graphs:
        rows = figures(results, chosen[graph.recipe.name], shown)
        models += ordered(graph, rows)
    notes += [*_cut_prompts(models), *_mark_others(models), *_released(models), *_unknown(models)]
    peers, said = published_models(shown)
    chance = chances(models, shown)
    return Board(columns=columns, models=[*chance, *models, *peers], notes=notes + said)


def _mark_others(models: Sequence[Model]) -> list[str]:
    """Mark the figures that were asked otherwise than the first of their column; return a note."""
    asked: dict[tuple[str, str], str] = {}
    others: dict[str, None] = {}
    for model in models:
        for key, row in model.figures.items():
            if asked.setdefault(key, row["task_sha256"]) != row["task_sha256"]:
                model.figures[key] = {**row, "other": True}
                others[row["task"]] = None
    return [
        f"{OTHER} Asked otherwise than the first model of the column (prompts, data or sample), "
        f"and not to be compared with it: {', '.join(names)}."
        for names in ([*others],)
        if names
    ]


def _cut_prompts(models: Sequence[Model]) -> list[str]:
    """Return a note of the tasks of which prompts were cut."""
    rows = [row for model in models for row in model.figures.values() if row["truncated"]]
    names = dict.fromkeys(row["task"] for row in rows)
    said = f"{MARK} Prompts cut on the left to fit the model's context: {', '.join(names)}."
    return [said] if names else []


def _released(models: Sequence[Model]) -> list[str]:
    """Return a note of the models that others released and that were scored here."""
    rows = [next(iter(model.figures.values())) for model in models if model.figures]
    names = dict.fromkeys(f"{row['model']} ({row['revision']})" for row in rows if is_released(row))
    said = f"Released by others, scored here: {', '.join(names)}. Their loss is per token of their "
    return [f"{said}own tokenizer; bits per byte (bpb) compare."] if names else []


def _unknown(models: Sequence[Model]) -> list[str]:
    """Return a note of the models whose tokens are known of their own run alone."""
    names = [each.name for each in models if each.tokens is None and each.own_tokens is not None]
    said = "Began from a model whose tokens are not known (of others, or of a run that is gone): "
    return [f"{said}{', '.join(names)}."] if names else []


def ordered(graph: Graph, rows: Iterable[Row]) -> list[Model]:
    """Return a recipe's models: baselines, the main line's in its order, checkpoints, others'.

    Models of one name and of several runs, as of an evaluation that is to be made anew, stay apart.
    """
    place = {name: number for number, name in enumerate(graph.nodes)}
    known: dict[tuple[Any, ...], Model] = {}
    for row in rows:
        of, _, step = row["model"].partition("@")
        key = (
            is_released(row),
            row["run"] is not None,
            bool(step),
            place.get(of, -1),
            row["step"] or 0,
            row["model"],
            row["run"] or "",
        )
        if key not in known:
            facts = {"name": row["model"], "tokens": row["tokens_in_all"]}
            facts["own_tokens"] = row["tokens"]
            known[key] = Model(recipe=graph.recipe.name, **facts)
        known[key].figures[row["task"], row["metric"]] = row
    return [known[key] for key in sorted(known)]


def chances(models: Sequence[Model], shown: Iterable[tuple[str, str]]) -> list[Model]:
    """Return the line of a model that guesses, or none where no column's chance is known."""
    known: dict[tuple[str, str], Row] = {}
    for key in shown:
        found = (model.figures[key] for model in models if key in model.figures)
        chance = next((row["chance"] for row in found if row["chance"] is not None), None)
        if chance is not None:
            known[key] = {"value": chance, "stderr": None}
    return (
        [Model(recipe="", name=CHANCE, tokens=None, own_tokens=None, figures=known)]
        if known
        else []
    )


def published_models(shown: Sequence[tuple[str, str]]) -> tuple[list[Model], list[str]]:
    """Return the published models that have one of the figures, and where these stand."""
    found: dict[str, Model] = {}
    sources: dict[str, None] = {}
    for table in published_tables():
        for row in table.rows():
            if (row["task"], row["metric"]) in shown:
                facts = {"name": row["model"], "tokens": row["tokens"], "own_tokens": None}
                model = found.setdefault(row["model"], Model(recipe=PUBLISHED, **facts))
                model.figures[row["task"], row["metric"]] = row
                sources[f"{table.source}, {table.url}"] = None
    return [*found.values()], [
        f"Published, with the documents and examples of the suite: {source}." for source in sources
    ]


def _titled(columns: Iterable[Column]) -> list[Column]:
    """Return columns whose titles differ: recipes may show different metrics of a task."""
    titles = [title for title, _, _ in columns]
    return [
        (title if titles.count(title) == 1 else f"{title} {metric}", task, metric)
        for title, task, metric in columns
    ]
