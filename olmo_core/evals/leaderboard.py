"""Join all figures of all models in one table, written as rows, CSV and Markdown.

Run as `python -m olmo_core.evals.leaderboard RUN_FOLDER/config.yaml`.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.config.evals import LeaderboardConfig
from olmo_core.evals.columns import (
    CHANCE,
    MARK,
    Column,
    downstream_columns,
    perplexity_columns,
)
from olmo_core.evals.released import is_released
from olmo_core.evals.rows import FACTS, exported_models, read_rows, write_rows
from olmo_core.files import write_atomic
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


def make(config: LeaderboardConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Join the rows of `perplexity` and `downstream`, models in the order of the export."""
    perplexity, downstream = (
        read_rows(inputs[name] / "rows.parquet") if name in inputs else []
        for name in ("perplexity", "downstream")  # a recipe that holds nothing out has one alone
    )
    order = {model.model: i for i, model in enumerate(exported_models(inputs["export"]))}
    # Baselines, which are no model of the export, come first; models of others come last.
    others = len(order)
    rows = sorted(
        perplexity + downstream,
        key=lambda row: others if is_released(row) else order.get(row["model"], -1),
    )
    write_rows(job.folder / "rows.parquet", rows)
    columns = perplexity_columns(perplexity) + downstream_columns(downstream, config)
    models = table(columns, rows)
    cells = chances(columns, rows) + models
    figures = {(row["model"], row["task"], row["metric"]): row for row in rows}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(cells[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    write_atomic(job.folder / "leaderboard.csv", text.getvalue())
    write_atomic(job.folder / "leaderboard.md", markdown_table(columns, cells, figures))
    numbers: dict[str, Any] = {"models": len(models), "figures": len(rows)}
    losses = {
        row["model"]: row["loss"]
        for row in cells
        if row.get("loss") is not None and not is_released(row)  # tokens of another tokenizer
    }
    if losses:
        best = min(losses, key=lambda model: losses[model])
        numbers |= {"lowest_loss": round(losses[best], 4), "lowest_loss_model": best}
    return Report(
        numbers=numbers,
        tables={"leaderboard": [_shown(row) for row in cells], "cut prompts": cut_prompts(rows)},
        data={"columns": [list(column) for column in columns]},
    )


def chances(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the row of a model that guesses, or none where no column's chance is known."""
    known = {(row["task"], row["metric"]): row["chance"] for row in rows}
    cells = {title: known.get((task, metric)) for title, task, metric in columns}
    if set(cells.values()) <= {None}:
        return []
    return [{**dict.fromkeys(FACTS), "model": CHANCE, **cells}]


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per model of a run: `FACTS` and its figures, None if absent."""
    facts = {_model(row): {key: row[key] for key in FACTS} for row in rows}
    values = {(*_model(row), row["task"], row["metric"]): row["value"] for row in rows}
    return [
        {**known, **{title: values.get((*model, task, name)) for title, task, name in columns}}
        for model, known in facts.items()
    ]


def _model(row: Mapping[str, Any]) -> tuple[str | None, str | None, str]:
    """Return what tells models apart: several runs may have a `stage1@step100`."""
    return row["recipe"], row["run"], row["model"]


def markdown_table(
    columns: Sequence[Column],
    cells: Sequence[Mapping[str, Any]],
    figures: Mapping[tuple[str, str, str], Mapping[str, Any]],
) -> str:
    """Return the table in Markdown.

    Task scores come with their standard error, and with a mark and a line below the table where
    prompts were cut. Another line says which metric each task's score is.
    """
    titles = ["model", "own tokens", *(title for title, _, _ in columns)]
    lines = [_line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
    for row in cells:
        values = [f"{row['model']}", "" if row["tokens"] is None else f"{row['tokens']:,}"]
        for title, task, metric in columns:
            figure = figures.get((row["model"], task, metric), {})
            value, error = row[title], figure.get("stderr")
            text = "" if value is None else f"{value:.3f}"
            text += "" if error is None else f" ± {error:.3f}"
            values.append(f"{text} {MARK}" if figure.get("truncated") else text)
        lines.append(_line(values))
    metrics = ", ".join(f"{title} {metric}" for title, task, metric in columns if title == task)
    lines += ["", f"Metrics: {metrics}."] if metrics else []
    if released := [f"{row['model']} ({row['revision']})" for row in cells if is_released(row)]:
        lines += [
            "",
            f"Released by others: {', '.join(released)}. Their loss is per token of their own "
            "tokenizer; bits per byte (bpb) compare.",
        ]
    shown = {task for _, task, _ in columns}
    if cut := [row for row in cut_prompts(figures.values()) if row["task"] in shown]:
        each = (
            f"{row['task']} {row['truncated']:,} of {row['documents']:,} documents "
            f"({row['models']})"
            for row in cut
        )
        lines += [
            "",
            f"{MARK} Prompts cut on the left to fit the model's context: {', '.join(each)}.",
        ]
    return "\n".join(lines) + "\n"


def cut_prompts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each task, of how many documents the prompt was cut, and for which models."""
    models: dict[tuple[str, int, int], list[str]] = {}
    for row in rows:
        if row["truncated"]:
            found = models.setdefault((row["task"], row["truncated"], row["n"]), [])
            if row["model"] not in found:  # a task has several metrics
                found.append(row["model"])
    return [
        {"task": task, "truncated": cut, "documents": documents, "models": ", ".join(names)}
        for (task, cut, documents), names in models.items()
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that fits a terminal: the model and its figures."""
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in row.items()
        if key == "model" or key not in FACTS
    }


if __name__ == "__main__":
    run_job(LeaderboardConfig, make)
