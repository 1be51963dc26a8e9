"""Follow a job to its result, through an engine's silence and a shared file system's lag."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from assets.diagnosis import diagnosis
from assets.launcher import EngineUnavailable, JobState, Launch, Launcher, Observer
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

Meanwhile = Callable[[], None]  # called at each look; what it raises ends the following


class JobFailed(RuntimeError):
    """A job ended without a result; the message says what, where and how to go on."""


def nothing() -> None:
    """The `meanwhile` of those who have nothing else to do."""


def follow(
    name: str,
    folder: RunFolder,
    launcher: Launcher,
    observer: Observer,
    meanwhile: Meanwhile = nothing,
) -> Mapping[str, Any]:
    """Watch a run folder until its result is there; return the result.

    Raises:
        JobFailed: the job is gone and has left no result.
    """
    began = time.monotonic()
    gone_since: float | None = None
    shown = JobState(alive=True)
    while True:
        meanwhile()
        state = _ask(launcher, folder)  # before the look at the result: a job may end in between
        if folder.finished:
            result = folder.read_result()
            observer.finished(name, result)
            return result
        now = time.monotonic()
        if state.alive:
            gone_since = None
            if state != shown:
                observer.state(name, state)
                shown = state
            status = folder.read_status()
            if status is not None:
                observer.progress(name, status)
        elif now - (gone_since or now) >= _gone_patience(folder):
            raise JobFailed(diagnosis(name, folder, state))
        else:
            gone_since = gone_since or now
            os.listdir(folder.path)  # makes NFS look anew for what it remembers as not there
        time.sleep(min(MOST_WAIT_SECONDS, max(LEAST_WAIT_SECONDS, SHARE_OF_AGE * (now - began))))


def submit_patiently(
    launcher: Launcher, launch: Launch, observer: Observer, meanwhile: Meanwhile = nothing
) -> bool:
    """`launcher.submit`, again and again while the engine does not answer.

    Raises:
        EngineUnavailable: it has not answered for ten minutes.
    """
    deadline = time.monotonic() + SUBMIT_PATIENCE_SECONDS
    while True:
        try:
            return launcher.submit(launch)
        except EngineUnavailable as error:
            if time.monotonic() > deadline:
                raise
            state = JobState(alive=True, queued=True, description=f"not submitted yet: {error}")
            observer.state(str(launch.identity["asset"]), state)
        meanwhile()
        time.sleep(SUBMIT_WAIT_SECONDS)


def _ask(launcher: Launcher, folder: RunFolder) -> JobState:
    """The job's state; a job whose engine does not answer is taken to go on."""
    try:
        return launcher.state(folder)
    except EngineUnavailable as error:
        return JobState(alive=True, description=f"not known now: {error}")


def _gone_patience(folder: RunFolder) -> float:
    launch = folder.read(folder.launch) or {}
    return 0.0 if launch.get("engine", "local") == "local" else GONE_PATIENCE_SECONDS
