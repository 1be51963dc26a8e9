"""Follow jobs to their results, through an engine's silence and a shared file system's lag."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from assets.launcher import EngineUnavailable, JobState, Launch, Launcher, Observer
from assets.reporting.diagnosis import diagnosis
from olmo_core.run.folder import RunFolder

# Each wait is a share of the time watched: a short job's end is noticed at once, and following a
# long one costs nothing.
SHARE_OF_AGE = 0.02
LEAST_WAIT_SECONDS = 0.05
MOST_WAIT_SECONDS = 2.0
# A job of another machine that seems gone: requeued, perhaps, or its last file is not seen here
# yet. Longer than an engine's own polling, so that it is asked anew.
GONE_PATIENCE_SECONDS = 20.0
SUBMIT_PATIENCE_SECONDS = 600.0  # of an engine that does not answer; a controller restarts faster
SUBMIT_WAIT_SECONDS = 5.0
LOOKING_SHARE = 0.02  # of the time that many jobs are followed, the most spent on looking at them

Meanwhile = Callable[[], object]  # called at each look; what it raises ends the following


class JobFailed(RuntimeError):
    """A job ended without a result; the message says what, where and how to go on."""


def nothing(*_: object) -> None:
    """Do nothing: the `meanwhile` of those who only wait, the progress of those who show none."""


@dataclass(kw_only=True)
class Following:
    """One job, looked at now and then until it has ended."""

    name: str
    folder: RunFolder
    launcher: Launcher
    observer: Observer
    _gone_since: float | None = field(default=None, repr=False)
    _shown: JobState = field(default=JobState(alive=True), repr=False)

    def look(self) -> Mapping[str, Any] | None:
        """Return the result, if it is there by now.

        Raises:
            JobFailed: the job is gone and has left no result.
        """
        try:  # before the look at the result: a job may end in between
            state = self.launcher.state(self.folder)
        except EngineUnavailable as error:  # the job is taken to go on
            state = JobState(alive=True, description=f"not known now: {error}")
        if self.folder.finished:
            result = self.folder.read_result()
            self.observer.finished(self.name, result)
            return result
        now = time.monotonic()
        if state.alive:
            self._gone_since = None
            if state != self._shown:
                self.observer.state(self.name, state)
                self._shown = state
            status = self.folder.read_status()
            # What has a lower number was left by a job before.
            if status is not None and status["attempt"] >= self._launch.get("submission", 1):
                self.observer.progress(self.name, status)
        elif (
            self._launch.get("engine", "local") == "local"
            or now - (self._gone_since or now) >= GONE_PATIENCE_SECONDS
        ):
            raise JobFailed(diagnosis(self.name, self.folder, state))
        else:
            self._gone_since = self._gone_since or now
            os.listdir(self.folder.path)  # makes NFS look anew for what it remembers as not there
        return None

    @functools.cached_property
    def _launch(self) -> Mapping[str, Any]:
        """The submission that is followed."""
        return self.folder.read(self.folder.launch) or {}


def follow(
    folders: Mapping[str, RunFolder],
    launcher: Launcher,
    observer: Observer,
    meanwhile: Meanwhile = nothing,
) -> Iterator[tuple[str, Mapping[str, Any] | JobFailed]]:
    """Watch run folders, by name; yield each as it ends, with its result or why it has none."""
    began = time.monotonic()
    left = {
        name: Following(name=name, folder=folder, launcher=launcher, observer=observer)
        for name, folder in folders.items()
    }
    while left:
        meanwhile()
        looking_seconds = 0.0
        for name, job in list(left.items()):
            looked = time.monotonic()
            try:
                ended = job.look()
            except JobFailed as error:
                ended = error
            looking_seconds += time.monotonic() - looked
            if ended is not None:
                del left[name]
                yield name, ended
        share = SHARE_OF_AGE * (time.monotonic() - began)
        wait_seconds = min(MOST_WAIT_SECONDS, max(LEAST_WAIT_SECONDS, share))
        if len(left) > 1:
            wait_seconds = max(wait_seconds, looking_seconds / LOOKING_SHARE)
        next_round = time.monotonic() + wait_seconds
        while left and (rest := next_round - time.monotonic()) > 0:
            time.sleep(min(rest, MOST_WAIT_SECONDS))
            meanwhile()


def submit_patiently(
    launcher: Launcher,
    launches: Mapping[str, Launch],
    observer: Observer,
    meanwhile: Meanwhile = nothing,
) -> set[str]:
    """Submit jobs, by name, again and again while the engine does not answer.

    Returns the names of those that this call has started.

    Raises:
        EngineUnavailable: it has not answered for ten minutes.
        EngineError: the engine refuses the jobs.
        Refused: they would exceed their recipe's budget.
    """
    if not launches:
        return set()
    deadline = time.monotonic() + SUBMIT_PATIENCE_SECONDS
    while True:
        try:
            started = {run.folder.path for run in launcher.submit([*launches.values()])}
            return {name for name, launch in launches.items() if launch.folder.path in started}
        except EngineUnavailable as error:
            if time.monotonic() > deadline:
                raise
            state = JobState(alive=True, queued=True, description=f"not submitted yet: {error}")
        for name in launches:
            observer.state(name, state)
        meanwhile()
        time.sleep(SUBMIT_WAIT_SECONDS)
