"""`olmo leaderboard`: models, checkpoints and published peers side by side, from the store."""

import sys
from collections.abc import Sequence
from typing import Any

from assets.assemble import build_graph
from assets.evals.board import Board, evaluations, make_board
from assets.evals.figures import figures
from assets.graph import Graph
from assets.paths import root, shared_roots
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.evals.published import published_tables
from olmo_core.evals.store.read import Results, open_results
from pipelines.cli.terminal import print_json, terminal

JSON_FIELDS = (
    *("recipe", "run", "seed", "model", "revision", "step", "tokens", "tokens_in_all"),
    *("task", "metric", "value", "stderr", "n", "task_sha256"),
)
SEPARATOR = "  "


def print_leaderboard(
    recipes: Sequence[str], *, checkpoints: bool, as_json: bool, markdown: bool
) -> int:
    """Print the figures of one or several recipes; returns 1 if a file of the store is damaged.

    Raises:
        ConfigError: nothing has been evaluated of one of the recipes.
    """
    graphs = [build_graph(load_recipe(name)) for name in dict.fromkeys(recipes)]
    results = open_results(root(), shared_roots(root()))
    if as_json:
        print_json(json_rows(graphs, results, checkpoints=checkpoints))
        return say_damaged(results)
    board = make_board(graphs, results, root(), checkpoints=checkpoints)
    for graph in graphs:
        require_figures(graph, any(each.recipe == graph.recipe.name for each in board.models))
    print(markdown_text(board) if markdown else plain_text(board, terminal().width))
    return say_damaged(results)


def require_figures(graph: Graph, there_are_some: bool) -> None:
    """Refuse a recipe without a figure.

    Raises:
        ConfigError: it has none.
    """
    if not there_are_some:
        name = graph.recipe.name
        raise ConfigError(f"{name}: no leaderboard has been made; start with: olmo run {name}")


def say_damaged(results: Results) -> int:
    """Name what is damaged on standard error; return the exit code that says so."""
    for why in results.damaged.values():
        print(f"olmo: {why}", file=sys.stderr)
    return int(bool(results.damaged))


def json_rows(
    graphs: Sequence[Graph], results: Results, *, checkpoints: bool
) -> list[dict[str, Any]]:
    """Return all figures of the recipes, then those published of the same tasks.

    `leaderboard` is the recipe that was asked for; `published` where a published figure stands.
    """
    found: list[dict[str, Any]] = []
    for graph in graphs:
        name = graph.recipe.name
        chosen, _ = evaluations(graph, results, root(), checkpoints=checkpoints)
        rows = figures(results, chosen)
        require_figures(graph, bool(rows))
        known = {"leaderboard": name, "published": None}
        found += [{**known, **{key: row[key] for key in JSON_FIELDS}} for row in rows]
    shown = {(row["task"], row["metric"]) for row in found}
    peers = (
        {**row, "tokens_in_all": row["tokens"]}
        for table in published_tables()
        for row in table.rows()
    )
    return found + [
        {"leaderboard": None, **{key: row[key] for key in ("published", *JSON_FIELDS)}}
        for row in peers
        if (row["task"], row["metric"]) in shown
    ]


def markdown_text(board: Board) -> str:
    """Return the whole table in Markdown, with the notes below."""
    cells = board_cells(board)
    right = 1 + (cells[0][0] == "recipe")
    rule = [*["---"] * right, *["---:"] * (len(cells[0]) - right)]
    lines = [f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:])]
    return "\n".join([*lines, *(line for note in notes(board) for line in ("", note))])


def plain_text(board: Board, width: int) -> str:
    """Return the table for a terminal, in several parts if it is too wide, with the notes below."""
    cells = board_cells(board)
    columns = [*zip(*cells, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    heads = 1 + (cells[0][0] == "recipe")
    used = sum(widths[:heads]) + len(SEPARATOR) * (heads - 1)
    parts: list[list[int]] = [[]]
    room = width - used
    for number in range(heads, len(columns)):
        needed = widths[number] + len(SEPARATOR)
        if parts[-1] and room < needed:
            parts.append([])
            room = width - used
        parts[-1].append(number)
        room -= needed
    texts = [
        "\n".join(
            SEPARATOR.join(
                line[n].ljust(widths[n]) if n < heads else line[n].rjust(widths[n])
                for n in (*range(heads), *part)
            ).rstrip()
            for line in cells
            if any(line[n] for n in part if n > heads + 1)  # else a model of none of these figures
        )
        for part in parts
    ]
    return "\n\n".join([*texts, "\n".join(notes(board))]).rstrip("\n")


def board_cells(board: Board) -> list[list[str]]:
    """Return the texts of the table, its head first; recipes have a column if there are several."""
    recipes = dict.fromkeys(model.recipe for model in board.models)
    several = len([name for name in recipes if name]) > 1
    lines = [
        ["recipe"] * several
        + ["model", "tokens", "own tokens", *(title for title, _, _ in board.columns)]
    ]
    for model in board.models:
        tokens = [
            "" if count is None else f"{count:,}" for count in (model.tokens, model.own_tokens)
        ]
        figures = [board.text(model, column) for column in board.columns]
        lines.append([*[model.recipe] * several, model.name, *tokens, *figures])
    return lines


def notes(board: Board) -> list[str]:
    """Return the lines below the table; the first says which metric each task's score is."""
    metrics = [f"{title} {metric}" for title, task, metric in board.columns if title == task]
    return [*([f"Metrics: {', '.join(metrics)}."] if metrics else []), *board.notes]
