"""`olmo attempts`, `olmo logs`: what became of an asset's latest job, and what it has said."""

import collections
import datetime
import time
from pathlib import Path
from typing import Any

from assets.graph import Graph
from assets.paths import root
from assets.reporting.diagnosis import diagnosis
from assets.reporting.texts import duration
from olmo_core.errors import ConfigError
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from pipelines.cli.jobs import require_asset
from pipelines.cli.terminal import print_json, table, terminal
from pipelines.launchers.router import site_launcher
from pipelines.places import Place, submitted

COLUMNS = ("attempt", "began", "took", "engine", "where", "end", "rank", "step", "checkpoint")
FOLLOW_SECONDS = 0.5


def print_attempts(recipe: str, asset: str, partition: str | None, *, as_json: bool) -> None:
    """Print the attempts of an asset's latest job; of one that failed also the diagnosis.

    Raises:
        ConfigError: unknown recipe or asset, or no job of it has been submitted yet.
        EngineError: the engine does not say whether the job is at work.
    """
    place = latest(require_asset(recipe, asset), root(), asset, partition)
    if as_json:
        print_json(attempts.read(place.folder))
        return
    console = terminal()
    console.print(f"{place.label}: {place.folder.path}")
    ended = attempts.ended(place.folder)
    if began := attempts.began(place.folder):
        cells = [_cells(row, ended.get(number, {})) for number, row in began.items()]
        console.print(table((*COLUMNS, "then"), cells))
    else:
        console.print("No supervisor has run it: a single process has one attempt per submission.")
    if place.folder.finished:
        console.print("It has finished.")
        return
    state = site_launcher().state(place.folder)
    if state.alive:
        console.print(f"It is {'queued' if state.queued else 'at work'}: {state.description}")
    else:
        console.print(diagnosis(asset, place.folder, state), markup=False)


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


def print_log(
    recipe: str, asset: str, partition: str | None, *, rank: int | None, lines: int, follow: bool
) -> None:
    """Print the end of the log of an asset's latest job, and what is added to it meanwhile.

    Raises:
        ConfigError: unknown recipe or asset, or there is no log.
    """
    place = latest(require_asset(recipe, asset), root(), asset, partition)
    log = log_path(place.folder, rank)
    with log.open("rb") as content:
        end = collections.deque(content, maxlen=lines)
        print(b"".join(end).decode(errors="replace"), end="", flush=True)
        launcher = site_launcher() if follow else None
        while launcher is not None:
            alive = not place.folder.finished and launcher.state(place.folder).alive
            more = content.read()  # after the look: what is written last is read too
            print(more.decode(errors="replace"), end="", flush=True)
            if not alive:
                return
            time.sleep(FOLLOW_SECONDS)


def latest(graph: Graph, root: Path, asset: str, partition: str | None = None) -> Place:
    """Return the run folder of an asset's last submitted job; without one, the one it reuses.

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
    """Return the latest attempt's main log, or that of a rank.

    Raises:
        ConfigError: there is no such file.
    """
    launch = folder.read(folder.launch) or {}
    path = folder.path / str(launch.get("log"))
    if rank is not None:
        logs = [*folder.log.glob("attempt*.rank*.log")]
        of_rank = [path for path in logs if path.name.endswith(f".rank{rank}.log")]
        if not of_rank:
            there = ", ".join(sorted(path.name for path in logs)[-8:]) or "none"
            raise ConfigError(f"{folder.log}: no log of rank {rank}; logs of ranks: {there}")
        path = max(of_rank, key=lambda log: (len(log.name), log.name))  # of the highest number
    if not path.is_file():
        raise ConfigError(f"{path}: not there; the job has not begun to write")
    return path
