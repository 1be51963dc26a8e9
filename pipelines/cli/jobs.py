"""`olmo jobs`, `olmo cancel`: what is at work, shown or ended, whoever started it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assets.assemble import build_graph
from assets.evals.sweep import sweep_names
from assets.graph import Graph
from assets.launcher import JobState, Launcher
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.texts import amount, duration, remaining_seconds, units_per_second
from assets.reuse import reused_from
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from pipelines.cli.terminal import done_text, print_json, table, terminal
from pipelines.launchers.router import site_launcher
from pipelines.names import shown
from pipelines.places import Place, at_work

# What status.json says of training alone.
TRAINING = ("step", "loss", "learning_rate", "tokens_per_second", "wandb_url")
FIGURES = ("engine", "job", "state", "attempt", "done", "loss", "rate", "left")


def print_jobs(recipe: str | None, *, as_json: bool) -> None:
    """Print every job that is queued or at work under the root; JSON is a list of objects."""
    if recipe is not None:
        load_recipe(recipe)  # an unknown name is an error
    rows = job_rows(site_launcher(), root(), recipe)
    if as_json:
        print_json(rows)
        return
    if not rows:
        print("No job is queued or at work.")
        return
    console, columns = terminal(), ("asset", *FIGURES, "heartbeat")
    console.print(table(columns, map(_cells, rows), right=["heartbeat"], unwrapped=["asset"]))
    for silence in dict.fromkeys(row["silence"] for row in rows if row["silence"]):
        console.print(f"\n{silence}", markup=False)


def job_rows(launcher: Launcher, root: Path, recipe: str | None = None) -> list[dict[str, Any]]:
    """Return what is known of every job that is queued or at work."""
    return [job_row(place, state) for place, state in at_work(launcher, root, recipe).items()]


def job_row(place: Place, state: JobState) -> dict[str, Any]:
    """Return what is known of one job."""
    launch = place.folder.read(place.folder.launch) or {}
    status = place.folder.read_status() or {}
    if state.queued or status.get("attempt", 1) < launch.get("submission", 1):
        status = {}  # an earlier attempt has left it: it says nothing of a job that waits or starts
    heartbeat = status.get("heartbeat")
    return {
        "recipe": place.recipe,
        "asset": place.asset,
        "partition": place.partition,
        "path": str(place.folder.path),
        "engine": launch.get("engine", "local"),
        "job_id": launch.get("job_id"),
        "state": "queued" if state.queued else "at work",
        "description": "not known now" if state.silence else state.description,
        "silence": state.silence,
        "attempt": status.get("attempt", launch.get("submission")),
        "heartbeat_seconds": None if heartbeat is None else round(time.time() - heartbeat, 1),
        **{name: status.get(name) for name in ("done", "total", "unit", *TRAINING)},
        "units_per_second": units_per_second(status) if status else None,
        "remaining_seconds": remaining_seconds(status) if status else None,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    rate, unit, heartbeat = row["tokens_per_second"], "tokens", row["heartbeat_seconds"]
    if rate is None and row["step"] is None:
        rate, unit = row["units_per_second"], row["unit"]
    return [
        f"{row['recipe']}/{row['asset']}" + (f" {row['partition']}" if row["partition"] else ""),
        row["engine"],
        row["job_id"] or "",
        f"{row['state']}: {row['description']}" if row["description"] else row["state"],
        str(row["attempt"] or ""),
        "" if row["done"] is None else done_text(row),
        "" if row["loss"] is None else f"{row['loss']:.4f}",
        "" if rate is None else f"{amount(rate)} {unit}/s",
        "" if row["remaining_seconds"] is None else duration(row["remaining_seconds"]),
        "" if heartbeat is None else f"{heartbeat:.0f} s ago",
    ]


def cancel(recipe: str, asset: str, partition: str | None) -> None:
    """End every job of an asset, or of one of its partitions.

    Raises:
        ConfigError: unknown recipe or asset.
    """
    graph = require_asset(recipe, asset)
    launcher = site_launcher()
    found = at_work(launcher, root(), recipe, asset)
    places = [place for place in found if partition in (None, place.partition)]
    launcher.cancel([place.folder for place in places])
    for place in places:
        print(f"{place.label}: ended; {place.folder.path}")
    if places:
        return
    print(f"{recipe}/{asset}: no job is queued or at work")
    for run in graph.unfinished(root(), asset) if asset in graph.nodes else []:
        owner = reused_from(run, root(), recipe)
        if owner is not None and launcher.state(run).alive:
            print(
                f"{recipe}/{asset}: the job of {owner} that it follows goes on; to end that "
                f"one: olmo cancel {owner} {asset}"
            )


def require_asset(recipe: str, asset: str) -> Graph:
    """Return the recipe's graph, which has the asset or may sweep it.

    Raises:
        ConfigError: there is no such recipe or asset; the nearest one is named.
    """
    graph = build_graph(load_recipe(recipe))
    known: Sequence[str] = [*graph.nodes, *sweep_names(graph)]
    if asset not in known:
        raise ConfigError(f"recipe {recipe} has no asset {shown(asset)}; {nearest(asset, known)}")
    return graph
