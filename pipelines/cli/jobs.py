"""`olmo jobs`, `olmo cancel`, `olmo logs`: what is at work, ended, or read, whoever started it."""

import collections
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP
from assets.graph import Graph
from assets.launcher import JobState, Launcher
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.texts import duration
from assets.reuse import reused_from
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.cli.terminal import amount, terminal
from pipelines.launchers.router import site_launcher
from pipelines.names import shown
from pipelines.places import Place, at_work, submitted

FOLLOW_SECONDS = 0.5


def print_jobs(recipe: str | None, *, as_json: bool) -> None:
    """Print every job that is queued or at work under the root; JSON is a list of objects."""
    if recipe is not None:
        load_recipe(recipe)  # an unknown name is an error
    rows = job_rows(site_launcher(), root(), recipe)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    console = terminal()
    if not rows:
        console.print("No job is queued or at work.", highlight=False)
        return
    table = Table(box=None, padding=(0, 2))
    table.add_column("asset", no_wrap=True)
    for title in ("engine", "job", "state", "attempt", "done", "loss", "rate", "left"):
        table.add_column(title, overflow="fold")
    table.add_column("heartbeat", justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for silence in dict.fromkeys(row["silence"] for row in rows if row["silence"]):
        console.print(f"\n{silence}", highlight=False, markup=False, soft_wrap=True)


def job_rows(launcher: Launcher, root: Path, recipe: str | None = None) -> list[dict[str, Any]]:
    """What is known of every job that is queued or at work."""
    return [_row(place, state) for place, state in at_work(launcher, root, recipe).items()]


def _row(place: Place, state: JobState) -> dict[str, Any]:
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
        **{
            name: status.get(name)
            for name in ("done", "total", "unit", "step", "loss", "learning_rate")
        },
        **{name: status.get(name) for name in ("tokens_per_second", "remaining_seconds")},
        "wandb_url": status.get("wandb_url"),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    done = ""
    if row["done"] is not None:
        total = f"/{amount(row['total'])}" if row["total"] else ""
        done = f"{amount(row['done'])}{total} {row['unit']}".rstrip()
    rate = row["tokens_per_second"]
    heartbeat = row["heartbeat_seconds"]
    return [
        f"{row['recipe']}/{row['asset']}" + (f" {row['partition']}" if row["partition"] else ""),
        row["engine"],
        row["job_id"] or "",
        f"{row['state']}: {row['description']}" if row["description"] else row["state"],
        str(row["attempt"] or ""),
        done,
        "" if row["loss"] is None else f"{row['loss']:.4f}",
        "" if rate is None else f"{amount(rate)} tokens/s",
        "" if row["remaining_seconds"] is None else duration(row["remaining_seconds"]),
        "" if heartbeat is None else f"{heartbeat:.0f} s ago",
    ]


def cancel(recipe: str, asset: str, partition: str | None) -> int:
    """End every job of an asset, or of one of its partitions; returns the exit code.

    Raises:
        ConfigError: unknown recipe or asset.
    """
    graph = require_asset(recipe, asset)
    launcher = site_launcher()
    places = [
        place
        for place in at_work(launcher, root(), recipe, asset)
        if partition in (None, place.partition)
    ]
    launcher.cancel([place.folder for place in places])
    for place in places:
        print(f"{place.label}: ended; {place.folder.path}")
    if not places:
        print(f"{recipe}/{asset}: no job is queued or at work")
    if not places and asset in graph.nodes:
        for run in graph.unfinished(root(), asset):
            owner = reused_from(run, root(), recipe)
            if owner is not None and launcher.state(run).alive:
                print(
                    f"{recipe}/{asset}: the job of {owner} that it follows goes on; to end that "
                    f"one: olmo cancel {owner} {asset}"
                )
    return 0


def print_log(
    recipe: str, asset: str, partition: str | None, *, rank: int | None, lines: int, follow: bool
) -> int:
    """Print the end of the log of an asset's latest job, and what is added to it meanwhile.

    Raises:
        ConfigError: unknown recipe or asset, or there is no log.
    """
    place = latest(require_asset(recipe, asset), root(), asset, partition)
    log = log_path(place.folder, rank)
    with log.open("rb") as content:
        end = collections.deque(content, maxlen=lines)
        sys.stdout.write(b"".join(end).decode(errors="replace"))
        sys.stdout.flush()
        if not follow:
            return 0
        launcher = site_launcher()
        while True:
            alive = not place.folder.finished and launcher.state(place.folder).alive
            more = content.read()  # after the look: what is written last is read too
            sys.stdout.write(more.decode(errors="replace"))
            sys.stdout.flush()
            if not alive:
                return 0
            time.sleep(FOLLOW_SECONDS)


def latest(graph: Graph, root: Path, asset: str, partition: str | None = None) -> Place:
    """The run folder of an asset whose job was submitted last; without one, the one it reuses.

    Raises:
        ConfigError: no job of it has been submitted yet.
    """
    recipe = graph.recipe.name
    places = [
        place for place in submitted(root, recipe, asset) if partition in (None, place.partition)
    ]
    if not places and asset in graph.nodes:
        elsewhere = [*graph.unfinished(root, asset), graph.finished(root, asset)]
        places += [
            Place(recipe=recipe, asset=asset, partition=None, folder=run)
            for run in elsewhere
            if run is not None and run.launch.is_file()
        ]
    if not places:
        raise ConfigError(f"{recipe}/{asset}: no job has been submitted yet")
    return max(places, key=lambda place: (place.folder.launch.stat().st_mtime_ns, place.label))


def log_path(folder: RunFolder, rank: int | None) -> Path:
    """The latest attempt's main log, or that of a rank.

    Raises:
        ConfigError: there is no such file.
    """
    launch = folder.read(folder.launch) or {}
    path = folder.path / str(launch.get("log"))
    if rank is not None:
        found = [entry for entry in folder.log.glob(f"attempt*.rank{rank}.log")]
        if not found:
            ranks = sorted(entry.name for entry in folder.log.glob("attempt*.rank*.log"))
            there = ", ".join(ranks[-8:]) or "none"
            raise ConfigError(f"{folder.log}: no log of rank {rank}; logs of ranks: {there}")
        path = max(found, key=_attempt_of)
    if not path.is_file():
        raise ConfigError(f"{path}: not there; the job has not begun to write")
    return path


def _attempt_of(log: Path) -> int:
    digits = log.name.removeprefix("attempt").partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def require_asset(recipe: str, asset: str) -> Graph:
    """The recipe's graph; refuse names that are no recipe's or no asset of it.

    Raises:
        ConfigError: as said; the nearest one is named.
    """
    graph = build_graph(load_recipe(recipe))
    known: Sequence[str] = [*graph.nodes, *SWEEP]
    if asset not in known:
        raise ConfigError(f"recipe {recipe} has no asset {shown(asset)}; {nearest(asset, known)}")
    return graph
