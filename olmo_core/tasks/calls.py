"""Calls of one job, done by its own processes and, where the engine has started some, by workers.

The job is the leader: it writes the calls into a folder below `work/`, does them like everybody
else, and takes the results in the order of the calls. Who does a call holds the lock of its file,
and writes the result into that very file: a call is done once, and begun again if its doer dies.
Nothing waits for a worker that has not come.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from olmo_core.files import PARTIAL
from olmo_core.run.code import code_digest
from olmo_core.run.job import Job
from olmo_core.tasks.lanes import BUSY, CODE, Lanes
from olmo_core.tasks.pickled import Outcome, main_module, packed, read_outcome

T = TypeVar("T")

log = logging.getLogger("olmo")

TICK_SECONDS = 0.1  # between two looks for results
BUSY_SECONDS = 1.0  # between two looks whether workers compute


def do_calls(
    calls: Sequence[Callable[[], T]], job: Job, *, on_done: Callable[[int, T], None]
) -> list[T]:
    """The results of the calls, in their order, from the processes of this job and of its workers.

    A call may be begun again after a process that did it has died: it must not mind what that one
    has left, and write the same again.

    Args:
        calls: What is run; partials of functions of `olmo_core` or of the job's own module. Calls
            and results are pickled.
        job: The leader. Without workers nothing is written: this is `run_calls`.
        on_done: Takes how many calls have ended and the result of the latest; may raise to stop.

    Raises:
        Exception: the first that a call or `on_done` raises; calls at work are ended.
        OSError: the results cannot be written (a full disk).
    """
    if job.workers == 0:
        results: list[T] = []
        for call in calls:
            results.append(call())
            on_done(len(results), results[-1])
        return results
    outcomes: dict[int, Outcome] = {}
    busy = _Busy()
    batch = publish(job.scratch / "calls", calls)
    lanes = Lanes(
        batch, job.folder, main=main_module(), processes=job.processes, position=0, positions=1
    )
    try:
        while len(outcomes) < len(calls):
            found = _ended(batch, outcomes)
            for number, outcome in found.items():
                outcomes[number] = outcome
                on_done(len(outcomes), outcome.value())
            if not found:
                lanes.wait(TICK_SECONDS)
                if busy.look(batch):
                    job.computes()
                if broken := lanes.broken():
                    raise broken
    finally:
        lanes.end()
        _remove(batch)
    _remove_torn(job)
    _say_who(outcomes)
    return [outcomes[number].value() for number in range(len(calls))]


def publish(folder: Path, calls: Sequence[Callable[[], object]]) -> Path:
    """Write the calls for whoever does them; returns their folder, in `folder`."""
    batch = folder / uuid.uuid4().hex
    beside = batch.with_name(batch.name + PARTIAL)
    beside.mkdir(parents=True)
    (beside / CODE).write_text(code_digest(main_module()))
    offsets = [0]
    with (beside / "calls").open("wb") as out:
        for call in calls:
            out.write(packed(call))
            offsets.append(out.tell())
        out.flush()
        os.fsync(out.fileno())
    (beside / "offsets.json").write_text(json.dumps(offsets))
    beside.rename(batch)
    return batch


def _ended(batch: Path, known: dict[int, Outcome]) -> dict[int, Outcome]:
    """The outcomes that have come since."""
    found: dict[int, Outcome] = {}
    for name in os.listdir(batch):
        if name.isdecimal() and int(name) not in known:
            with (batch / name).open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # at work
                outcome = read_outcome(file, main_module())
            if outcome is not None:
                found[int(name)] = outcome
    return found


class _Busy:
    """Whether workers compute, from look to look; nodes' clocks may differ."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._looked = time.monotonic()

    def look(self, batch: Path) -> bool:
        """True where a worker has said so since."""
        if time.monotonic() - self._looked < BUSY_SECONDS:
            return False
        self._looked = time.monotonic()
        seen = {path.name: path.stat().st_mtime_ns for path in batch.glob(f"{BUSY}*")}
        before, self._seen = self._seen, seen
        return seen != before


def _remove(batch: Path) -> None:
    """Take the calls away: from the new name on nobody begins another."""
    ended = batch.with_name(batch.name + PARTIAL)
    with contextlib.suppress(FileNotFoundError):
        batch.rename(ended)
    shutil.rmtree(ended, ignore_errors=True)


def _remove_torn(job: Job) -> None:
    """What a process that was killed had not yet renamed is no part of the result."""
    for path in job.files.outputs():
        if path.name.endswith(PARTIAL):
            (job.folder / path).unlink()


def _say_who(outcomes: dict[int, Outcome]) -> None:
    who = [outcome.doer for outcome in outcomes.values()]
    counts = ", ".join(f"{who.count(doer)} by {doer}" for doer in sorted(set(who)))
    log.info("%d calls: %s", len(who), counts)
