"""`olmo attempts`: what became of an asset's latest job, attempt by attempt, and why it ended."""

import datetime
import json
from typing import Any

from rich.table import Table

from assets.paths import root
from assets.reporting.diagnosis import diagnosis
from assets.reporting.texts import duration
from olmo_core.run import attempts
from pipelines.cli.jobs import latest, require_asset
from pipelines.cli.terminal import terminal
from pipelines.launchers.router import site_launcher

COLUMNS = (
    "attempt",
    "began",
    "took",
    "engine",
    "where",
    "end",
    "rank",
    "step",
    "checkpoint",
    "then",
)


def print_attempts(recipe: str, asset: str, partition: str | None, *, as_json: bool) -> None:
    """Print the attempts of an asset's latest job; of one that failed also the diagnosis.

    Raises:
        ConfigError: unknown recipe or asset, or no job of it has been submitted yet.
        EngineError: the engine does not say whether the job is at work.
    """
    place = latest(require_asset(recipe, asset), root(), asset, partition)
    rows = attempts.read(place.folder)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    console = terminal()
    console.print(f"{place.label}: {place.folder.path}", highlight=False, soft_wrap=True)
    began = {row["attempt"]: row for row in rows if row.get("event") == "began"}
    ended = {row["attempt"]: row for row in rows if row.get("event") == "ended"}
    if began:
        table = Table(box=None, padding=(0, 2))
        for title in COLUMNS:
            table.add_column(title, overflow="fold")
        for number, row in began.items():
            table.add_row(*_cells(row, ended.get(number, {})))
        console.print(table)
    else:
        console.print("No supervisor has run it: a single process has one attempt a submission.")
    if place.folder.finished:
        console.print("It has finished.")
        return
    state = site_launcher().state(place.folder)
    if state.alive:
        console.print(f"It is {'queued' if state.queued else 'at work'}: {state.description}")
    else:
        text = diagnosis(asset, place.folder, state)
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _cells(began: dict[str, Any], ended: dict[str, Any]) -> list[str]:
    when = datetime.datetime.fromtimestamp(began["time"]).strftime("%Y-%m-%d %H:%M:%S")
    took = duration(ended["time"] - began["time"]) if ended else ""
    nodes = ", ".join(began.get("nodes") or []) or str(began.get("host", ""))
    job = f" {began['job_id']}" if began.get("job_id") else ""
    end = str(ended.get("cause", "at work"))
    if ended.get("signal"):
        end += f", signal {ended['signal']}"
    elif ended.get("exit_code"):
        end += f", exit code {ended['exit_code']}"
    numbers = [ended.get(key) for key in ("rank", "step", "checkpoint_step")]
    return [
        str(began["attempt"]),
        when,
        took,
        f"{began.get('engine', '')}{job}",
        nodes,
        end,
        *("" if number is None else str(number) for number in numbers),
        str(ended.get("next") or ""),
    ]
