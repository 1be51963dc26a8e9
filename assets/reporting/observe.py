"""Shows in Dagster how a job goes that a step follows: observations of its asset.

An observation is the one event that Dagster shows at the asset while its step is in progress, with
fields and a log's end one click away. They are few: a training of a month leaves some thousands.
"""

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec

import dagster as dg
from sqlalchemy.exc import DBAPIError

from assets.launcher import JobState, Observer
from assets.reporting import texts
from assets.reporting.tables import figure
from olmo_core.files import read_end
from olmo_core.run.folder import RunFolder

FIRST_AFTER_SECONDS = 5.0  # a job that is over by then is reported by its materialisation alone
EVERY_SECONDS = 60.0
MOST_SECONDS = 300.0  # between two observations of a long job
SHARE_OF_AGE = 1 / 60  # a day's job is observed every five minutes
LOG_BYTES = 4096  # of the log's end, in each observation
NUMBERS = ("loss", "learning_rate", "tokens_per_second")  # as training's status has them

P = ParamSpec("P")


class Pace:
    """When a job is observed: soon after the beginning, then once a minute, later once in five."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.next = self.began + FIRST_AFTER_SECONDS

    @property
    def due(self) -> bool:
        """Whether it is time for the next observation."""
        return time.monotonic() >= self.next

    def observe(
        self,
        context: dg.AssetExecutionContext,
        metadata: Mapping[str, Any],
        partition: str | None = None,
    ) -> None:
        """Store an observation of the step's asset, and compute when the next one is due."""
        now = time.monotonic()
        age = now - self.began
        self.next = now + min(MOST_SECONDS, max(EVERY_SECONDS, SHARE_OF_AGE * age))
        observation = dg.AssetObservation(
            asset_key=context.asset_key, partition=partition, metadata=metadata
        )
        try:
            context.log_event(observation)
        except DBAPIError as error:  # PostgreSQL restarts, perhaps: no reason to leave the job
            self.next = now + FIRST_AFTER_SECONDS
            print(f"observation not stored: {error}", flush=True)


class DagsterObserver:
    """Observations at changes of the job's state, at its first figures, and at a pace."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self.context = context
        self.folder: RunFolder | None = None
        self.job = JobState(alive=True)
        self.status: Mapping[str, Any] = {}
        self.pace = Pace()
        self.shown_at_work = False

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Log where the work lies and whether this run started it."""
        self.context.log.info(f"{asset}: {how}; {folder.path}")
        if how != "submitted":  # that is another step's
            self.folder = folder

    def state(self, asset: str, state: JobState) -> None:
        """Observe a job that waits at once, and one that has waited."""
        waited, self.job = self.job.queued, state
        if state.queued or waited:
            self._observe()

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Observe a further attempt and the first figures at once, progress now and then."""
        again = bool(self.status) and status["attempt"] != self.status["attempt"]
        self.status = status
        lasts = time.monotonic() >= self.pace.began + FIRST_AFTER_SECONDS
        # A job that has waited was shown as it began to run, when it had no figures yet.
        first = has_figures(status) and not self.shown_at_work and lasts
        if again or first or self.pace.due:
            self._observe()

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Log what it cost."""
        self.context.log.info(
            f"{asset}: finished in {result['work_seconds']:.1f} s, "
            f"peak {result['peak_memory_bytes'] / 2**20:.0f} MiB"
        )

    def _observe(self) -> None:
        self.shown_at_work = has_figures(self.status) and not self.job.queued
        partition = self.context.partition_key if self.context.has_partition_key else None
        self.pace.observe(
            self.context, observed(self.folder, self.job, self.status), partition=partition
        )


class Tally:
    """Counts how many partitions of an asset are how far, while one step makes them all.

    One observation for all, at a pace: a partition's own page has its materialisation.
    """

    def __init__(self, context: dg.AssetExecutionContext, total: int) -> None:
        self.context = context
        self.total = total
        self.made = 0
        self.failed: dict[str, Exception] = {}
        self.states: dict[str, JobState] = {}  # of jobs that are not over
        self.pace = Pace()

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Log where the work lies and whether this run started it."""
        self.context.log.info(f"{asset}: {how}; {folder.path}")

    def state(self, asset: str, state: JobState) -> None:
        """Observe now and then."""
        self.states[asset] = state
        self._observe_if_due()

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Observe now and then."""
        self.states.setdefault(asset, JobState(alive=True))
        self._observe_if_due()

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Do nothing: the partition's materialisation says it."""

    def ended(self, asset: str, error: Exception | None) -> None:
        """Count one that is over; log why it failed."""
        self.states.pop(asset, None)
        if error is None:
            self.made += 1
        else:
            self.failed[asset] = error
            self.context.log.error(str(error))
        self._observe_if_due()

    def _observe_if_due(self) -> None:
        if self.pace.due:
            self.pace.observe(self.context, self.observed())

    def observed(self) -> dict[str, str]:
        """Return the counts at this moment, as metadata."""
        waiting = [state.description for state in self.states.values() if state.queued]
        parts: list[str] = []
        if running := len(self.states) - len(waiting):
            parts.append(f"{running} at work")
        if waiting:
            parts.append(f"{len(waiting)} waiting ({waiting[0]})")
        failed = {"failed": ", ".join(self.failed)} if self.failed else {}
        return {
            "state": ", ".join(parts) or "at work",
            "progress": f"{self.made} of {self.total} partitions",
            **failed,
        }


class Both:
    """Tells two observers of everything."""

    def __init__(self, one: Observer, other: Observer) -> None:
        self.started = _both(one.started, other.started)
        self.state = _both(one.state, other.state)
        self.progress = _both(one.progress, other.progress)
        self.finished = _both(one.finished, other.finished)


def _both(one: Callable[P, None], other: Callable[P, None]) -> Callable[P, None]:
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        one(*args, **kwargs)
        other(*args, **kwargs)

    return call


def observed(folder: RunFolder | None, job: JobState, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a job at this moment, as metadata."""
    shown: dict[str, Any] = {"state": state_text(folder, job, status)}
    if status and not job.queued:
        shown["progress"] = texts.progress_text(status)
        if isinstance(status.get("step"), int):
            shown["step"] = figure(status["step"])
        for name in NUMBERS:
            if isinstance(status.get(name), int | float):
                shown[name] = figure(status[name])
        if "tokens_per_second" not in status and (rate := texts.rate_text(status)):
            shown["rate"] = rate
        if (left := texts.remaining_seconds(status)) is not None:
            shown["time_remaining"] = texts.duration(left)
        if status.get("wandb_url"):
            shown["wandb"] = dg.MetadataValue.url(str(status["wandb_url"]))
        elif folder is not None and any(folder.path.glob("wandb/offline-run-*")):
            kept = f"{shlex.quote(str(folder.path / 'wandb'))}/offline-run-*"
            shown["wandb"] = f"offline; to send it: wandb sync {kept}"
    if folder is not None:
        launch = folder.read(folder.launch) or {}
        log = folder.path / str(launch.get("log", "log/job.log"))
        if end := log_end(log):
            shown["log_end"] = dg.MetadataValue.md(texts.code_block(end))
        shown["log"] = dg.PathMetadataValue(str(log))
    return shown


def has_figures(status: Mapping[str, Any]) -> bool:
    """Return whether the job has done something, and if it trains, knows at what rate."""
    return bool(status.get("done")) and status.get("tokens_per_second", 0) is not None


def state_text(folder: RunFolder | None, job: JobState, status: Mapping[str, Any]) -> str:
    """Return `waiting (job 7 pending: Resources)`, or `job 7 running on n1, attempt 3 after …`."""
    if job.queued:
        return f"waiting ({job.description})" if job.description else "waiting"
    said = job.description
    text = said if "running" in said else f"running ({said})" if said else "running"
    attempt = int(status.get("attempt", 1))
    return f"{text}, {texts.attempt_text(folder, attempt)}" if folder and attempt > 1 else text


def log_end(log: Path) -> str:
    """Return the last whole lines of a log, as far as they fit; nothing before there is one."""
    try:
        end = read_end(log, LOG_BYTES + 1)
    except FileNotFoundError:
        return ""  # the job has not begun to write
    except OSError as error:
        return f"{log}: {error.strerror}"
    text = end.decode(errors="replace")
    return text.partition("\n")[2] if len(end) > LOG_BYTES else text
