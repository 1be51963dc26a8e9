"""What the run folders tell: jobs that failed or stand still, and what training has logged.

They tell it of every job, whether a Dagster run follows it or not.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assets.execution.follow import GONE_PATIENCE_SECONDS
from assets.launcher import EngineError, JobState, Launcher
from assets.reporting.diagnosis import causes
from assets.reporting.texts import duration
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.alerts.message import Alert, Kind, alert
from pipelines.alerts.metrics import Reading, read_on, skip
from pipelines.launchers.submission import read_launch
from pipelines.places import Place, submitted

MOST_SPIKES = 5  # that one alert names
RECENT_NS = 60 * 10**9


@dataclass(kw_only=True)
class Watched:
    """What has been seen of an unfinished run folder."""

    reading: Reading = field(default_factory=Reading)
    # How far the job was when it was last seen to move, and when that was by this machine's clock:
    # those of nodes differ.
    progress: list[Any] | None = None
    moved: float = 0.0
    stalled: bool = False  # has been told of that progress
    gone_since: float | None = None
    told: int = 0  # submission whose failure has been told


@dataclass(kw_only=True)
class Folders:
    """The run folders under a root; `watched` goes by path relative to it."""

    watched: dict[str, Watched] = field(default_factory=dict[str, Watched])
    last_result_ns: int | None = None  # when the newest result was written; None: never looked
    # Folders of the last results: a file system's clock is coarse, and a result gets its name a
    # while after it was written.
    last_results: list[str] = field(default_factory=list[str])

    def look(
        self, root: Path, launcher: Launcher, *, stall_seconds: float, now: float
    ) -> tuple[list[Alert], list[str]]:
        """Return what is new since the last look, and what could not be looked at, and why.

        What was there before the first look is not told.
        """
        if not root.is_dir():  # not mounted, perhaps: nothing is known, and nothing forgotten
            return [], [f"{root}: no such folder"]
        first, oldest_ns = self.last_result_ns is None, (self.last_result_ns or 0) - RECENT_NS
        found: list[Alert] = []
        troubles: list[str] = []
        watched: dict[str, Watched] = {}
        results: dict[str, int] = {}
        for place in submitted(root):
            key = str(place.folder.path.relative_to(root))
            known = self.watched.get(key)
            try:
                if place.folder.finished:
                    results[key] = place.folder.result.stat().st_mtime_ns
                    is_new = results[key] >= oldest_ns and key not in self.last_results
                    if first or (known is None and not is_new):
                        continue
                    place, known = _by_submitter(place), known or Watched()
                    before = known.reading.offset
                    found += _logged(place, known.reading, now)
                    if known.reading.offset > before:  # there may be more
                        watched[key] = known
                    continue
                place, known = _by_submitter(place), known or Watched()
                watched[key] = known
                if first:
                    skip(place.folder.metrics, known.reading)
                found += _logged(place, known.reading, now)
                found += _job(place, known, launcher, stall_seconds, now, first=first)
            except (ConfigError, EngineError, OSError, ValueError) as error:
                troubles.append(f"{place.label}: {error}")
                if known is not None:
                    watched[key] = known
        self.watched = watched
        self.last_result_ns = max([self.last_result_ns or 0, *results.values()])
        recent_ns = self.last_result_ns - RECENT_NS
        self.last_results = [key for key, written in results.items() if written >= recent_ns]
        return found, troubles


def _by_submitter(place: Place) -> Place:
    """Return the place as of the recipe that has submitted its job last."""
    return replace(place, recipe=str(read_launch(place.folder).get("recipe") or place.recipe))


def _logged(place: Place, reading: Reading, now: float) -> Iterator[Alert]:
    """Yield what is wrong in the rows that a job has logged since the last look."""
    found = read_on(place.folder.metrics, reading)
    if found.spikes:
        more = len(found.spikes) - MOST_SPIKES
        seen = "; ".join(found.spikes[-MOST_SPIKES:]) + (f"; and {more} before" if more > 0 else "")
        seen += ": far above the steps before"
        yield _alert(place, "loss_spike", seen, now, step=found.spike_step)
    if found.not_finite:
        seen = f"not a number: {'; '.join(found.not_finite[-MOST_SPIKES:])}"
        yield _alert(place, "not_finite", seen, now, step=found.not_finite_step)


def _job(
    place: Place,
    known: Watched,
    launcher: Launcher,
    stall_seconds: float,
    now: float,
    *,
    first: bool,
) -> Iterator[Alert]:
    """Yield what is wrong with a job that has left no result."""
    folder = place.folder
    state = launcher.state(folder)  # before the files: a job may end in between
    launch = read_launch(folder)
    submission = int(launch.get("submission", 1))
    if folder.finished:
        return
    if state.alive:
        known.gone_since = None
        yield from _stall(place, known, state, launch, stall_seconds, now)
    elif known.told < submission:
        known.gone_since = known.gone_since or now
        status = _status(folder, submission)
        # Else it may be in a queue again in a moment, or its last file is not seen here yet.
        over = folder.failure.exists() or status.get("state") in ("failed", "stopped")
        if first or over or now - known.gone_since >= GONE_PATIENCE_SECONDS:
            known.told = submission
            if not (first or _was_asked(folder, status)):
                yield _failure(place, state, status, now)


def _stall(
    place: Place,
    known: Watched,
    state: JobState,
    launch: Mapping[str, Any],
    stall_seconds: float,
    now: float,
) -> Iterator[Alert]:
    """Yield that a job stands still, once until it moves again.

    As its supervisor sees it: using the CPU counts for a job of one process, which may not know how
    far it is; the ranks of a distributed job use it while they wait for each other.
    """
    submission = int(launch.get("submission", 1))
    status = _status(place.folder, submission)
    progress = [submission, status.get("attempt"), status.get("progressed")]
    if not (launch.get("run") or {}).get("distributed"):
        progress.append(status.get("busy"))
    if state.queued or progress != known.progress:
        known.progress, known.moved, known.stalled = progress, now, False
    elif not known.stalled and now - known.moved >= stall_seconds:
        known.stalled = True
        seen = (
            f"no step or other progress for {duration(now - known.moved)}, and its job is at work"
        )
        if state.description:
            seen += f" ({state.description})"
        if status.get("done") and status.get("unit"):
            seen += f"; it has done {status['done']:,.12g} {status['unit']}"
        yield _alert(place, "stalled", seen, now, step=status.get("step"))


def _failure(place: Place, state: JobState, status: Mapping[str, Any], now: float) -> Alert:
    folder = place.folder
    failure = folder.read(folder.failure) or {}
    diverged = failure.get("cause") == "diverged" or str(status.get("error")).startswith("Diverged")
    step = failure.get("step") if failure else status.get("step")
    seen = "\n".join(causes(folder, state))
    return _alert(place, "not_finite" if diverged else "job_failed", seen, now, step=step)


def _was_asked(folder: RunFolder, status: Mapping[str, Any]) -> bool:
    """Return whether somebody has ended the job, who needs not be told."""
    failure = folder.read(folder.failure)
    if failure is not None:
        return failure["cause"] == "stopped"
    return status.get("state") == "stopped" or folder.cancel.exists()


def _status(folder: RunFolder, submission: int) -> Mapping[str, Any]:
    """Return what this submission's job says of itself; empty until it says something."""
    status = folder.read_status() or {}
    return status if int(status.get("attempt", 0)) >= submission else {}


def _alert(place: Place, kind: Kind, seen: str, now: float, *, step: int | None) -> Alert:
    command = ["olmo", "logs", place.recipe, place.asset]
    if place.partition:
        command += ["--partition", place.partition]
    return alert(
        kind,
        recipe=place.recipe,
        asset=place.asset,
        partition=place.partition,
        run=place.folder.path.name,
        step=step,
        seen=seen,
        look=f"{place.folder.path}, {shlex.join(command)}",
        time=now,
    )
