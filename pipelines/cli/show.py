"""`olmo show`: the run folders, read."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assets.agreement import rate_doubts
from assets.assemble import build_graph
from assets.evals.sweep import SWEEP
from assets.graph import Graph
from assets.paths import root
from assets.recipe import Recipe, load_recipe
from assets.reporting.forecasts import readable
from assets.reporting.in_loop import in_loop_tables
from assets.reporting.texts import amount
from assets.reuse import reused_from
from assets.staleness import latest_finished
from olmo_core.errors import ConfigError
from olmo_core.forecast.measured import beside
from olmo_core.run.folder import RunFolder, read_metrics
from pipelines.cli.show_origin import origin_of
from pipelines.cli.show_sweep import print_sweep, sweep_entries
from pipelines.cli.terminal import plain, print_json, table, terminal

FIGURE_WIDTH = 14  # columns of a terminal that a figure and its title take
MOST_DECIMALS = 5  # that a table's columns are aligned by
MOST_UNWRAPPED = 60  # characters of a text in a table


def print_assets(recipe: str, asset: str | None, *, as_json: bool) -> None:
    """Print what has been made of a recipe, one asset or all; JSON is a list of objects."""
    graph = build_graph(load_recipe(recipe))
    if asset in SWEEP:
        swept = sweep_entries(graph, root(), asset)
        print_json(swept) if as_json else print_sweep(terminal(), swept)
        return
    if asset is not None:
        graph.select([asset])  # an unknown name is an error
    entries = [asset_entry(graph, root(), name) for name in graph.nodes if asset in (None, name)]
    made = [entry for entry in entries if entry is not None]
    if asset is not None and made:
        made[0]["metadata"]["checks"] = [
            {"check": name, "passed": verdict.passed, "found": verdict.description}
            for name, verdict in graph.verdicts(root(), asset).items()
        ]
    if as_json:
        print_json(made)
    elif not made:
        print(f"{recipe}: nothing has been made; start with: olmo run {recipe}")
    elif asset is None:
        columns = ("asset", "state", "version", "made", "what")
        terminal().print(table(columns, map(_cells, made), unwrapped=columns[:-1]))
    else:
        _print_asset(terminal(), made[0])


def asset_entry(graph: Graph, root: Path, name: str) -> dict[str, Any] | None:
    """Return what is known of an asset's current run, else of its latest; None if it has none."""
    run = graph.finished(root, name)
    current = run is not None
    run = run or latest_finished(graph, root, name)
    if run is None:
        return None
    accepted = graph.fingerprints[name].accepted
    result = run.read_result()
    created = datetime.datetime.fromtimestamp(result["finished"], datetime.UTC)
    report: Mapping[str, Any] = result["report"]
    taken = {"forecast": rows} if (rows := beside(run)) else {}
    return {
        "asset": name,
        "partition": result["partition"],
        "path": str(run.path),
        "reused_from": reused_from(run, root, graph.recipe.name),
        "fingerprint": result["fingerprint"],
        "created": created.isoformat(timespec="seconds"),
        **origin_of(graph, name, run, current=current),
        "metadata": {
            **report["numbers"],
            "current": current,
            "failed_check": graph.failed_check(root, name) if current else None,
            **({"accepted": str(accepted)} if current and accepted else {}),
            "digest": result["digest"],
            "tables": {**report["tables"], **in_loop_tables(read_metrics(run.metrics)), **taken},
            **{key: result[key] for key in ("work_seconds", "start_seconds", "peak_memory_bytes")},
        },
    }


def _cells(entry: Mapping[str, Any]) -> list[str]:
    numbers = [
        f"{key} {amount(value) if isinstance(value, int | float) else value}"
        for key, value in entry["metadata"].items()
        if key not in ("current", "failed_check", "accepted", "digest", "tables")
        and not key.endswith("_seconds")
    ]
    return [
        entry["asset"],
        _state(entry),
        entry["fingerprint"][:12],
        # This machine's time, as in the logs; the JSON has UTC.
        f"{datetime.datetime.fromisoformat(entry['created']).astimezone():%Y-%m-%d %H:%M:%S}",
        plain(entry["metadata"]["failed_check"] or ", ".join(numbers[:3])),
    ]


def _state(entry: Mapping[str, Any]) -> str:
    if entry["metadata"]["failed_check"]:
        return "[red]check failed[/]"
    if not entry["metadata"]["current"]:
        return "[yellow]stale[/]"
    word = "accepted" if "accepted" in entry["metadata"] else "current"
    whose = f" (reused from {entry['reused_from']})" if entry["reused_from"] else ""
    return f"[green]{word}[/]{escape(whose)}"


def _print_asset(console: Console, entry: Mapping[str, Any]) -> None:
    for key in ("asset", "path", "reused_from", "fingerprint", "created", "commit", "uncommitted"):
        if entry[key] is not None:
            console.print(plain(f"{key}: {entry[key]}"))
    for key in ("inputs", "seeds", "overrides"):
        if entry[key]:
            said = ", ".join(f"{name} {value}" for name, value in entry[key].items())
            console.print(plain(f"{key}: {said}"))
    for key, value in entry["metadata"].items():
        if key not in ("tables", "checks"):
            console.print(plain(f"{key}: {value}"))
    tables = {"checks": entry["metadata"]["checks"], **entry["metadata"]["tables"]}
    for title, rows in tables.items():
        if rows and title == "forecast":
            console.print(rows_table("forecast at the launch / measured", readable(rows)))
        elif rows:
            console.print(rows_table(title, rows))


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a list of mappings as a terminal table."""
    made = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        longest = max((len(str(row.get(column))) for row in rows), default=0)
        made.add_column(
            plain(column),
            justify="right" if numeric else "left",
            no_wrap=not numeric and longest <= MOST_UNWRAPPED,  # a sentence leaves room for figures
        )
    cells = [_figures([row.get(column) for row in rows]) for column in columns]
    for row in zip(*cells, strict=True):
        made.add_row(*row)
    return made


def _figures(values: Sequence[Any]) -> list[str]:
    """Return a column's texts; floats of four digits, point below point if that takes few zeros."""
    short = [f"{value:.4g}" for value in values if isinstance(value, float)]
    decimals = max((len(text.partition(".")[2]) for text in short), default=0)
    aligned = decimals <= MOST_DECIMALS and not any("e" in text or "n" in text for text in short)

    def cell(value: Any) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return plain(str(value))
        return f"{value:.{decimals}f}" if aligned else f"{value:.4g}"

    return [cell(value) for value in values]


def print_doubts(console: Console, recipe: Recipe) -> None:
    """Print what is allowed and was perhaps not meant."""
    for doubt in rate_doubts(recipe):
        console.print(f"is that meant? {doubt}", style="yellow")


def leaderboard_folder(graph: Graph, root: Path) -> RunFolder:
    """Return the current leaderboard's run, else the latest."""
    run = graph.finished(root, "leaderboard") or latest_finished(graph, root, "leaderboard")
    if run is None:
        name = graph.recipe.name
        raise ConfigError(f"{name}: no leaderboard has been made; start with: olmo run {name}")
    return run


def print_models(console: Console, graph: Graph, root: Path) -> None:
    """Print one row per model, one column per figure; in several tables if one is too wide."""
    report = leaderboard_folder(graph, root).read_result()["report"]
    rows = report["tables"]["leaderboard"]
    name, *figures = list(rows[0]) if rows else ["model"]
    longest = max((len(str(row[name])) for row in rows), default=0)
    beside = max(1, (console.width - longest) // FIGURE_WIDTH)
    for start in range(0, len(figures), beside):
        columns = [name, *figures[start : start + beside]]
        part = [{column: row[column] for column in columns} for row in rows]
        console.print(rows_table("" if start else "Models", part))
    for row in report["tables"].get("cut prompts", ()):
        console.print(
            f"{row['task']}: the prompts of {row['truncated']:,} of {row['documents']:,} documents "
            f"were cut to fit the context ({row['models']})",
            style="yellow",
        )
