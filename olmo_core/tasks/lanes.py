"""Processes of one node that do the calls of a batch: each takes the next that nobody has.

They end with the process that started them, whatever ends it.
"""

import fcntl
import importlib
import json
import logging
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import wait
from pathlib import Path

from olmo_core.errors import REFUSALS
from olmo_core.run.code import code_digest_now
from olmo_core.run.command import set_up_logging
from olmo_core.run.folder import RunFolder
from olmo_core.tasks.pickled import is_whole, outcome_of, unpacked, write_outcome
from olmo_core.tasks.pool import die_with_parent

log = logging.getLogger("olmo")

CODE = "code"  # the file of the digest of the leader's code
EXIT_REFUSED = 128  # and the number of the error with which a file was refused
EXIT_OTHER_CODE = 7  # of a process of these; no job ends with it
BUSY = "busy."  # and a worker's number: touched while it computes
LIST_SECONDS = 2.0  # for which a list of the calls that were begun is good
REDO_SECONDS = 0.5  # between two looks for calls whose doer has died
REDO_LOOKS = 200  # calls that one such look asks for


class Lanes:
    """Some processes at work on one batch of calls.

    Args:
        batch: The folder of the calls.
        run_folder: Of the job.
        main: The job's module, for which `__main__` stands in the calls.
        processes: How many; no more than calls.
        position: Of this node among all that do calls; the leader's is 0.
        positions: How many nodes there may be: each begins elsewhere.

    Raises:
        FileNotFoundError: the calls are not there any more.
    """

    def __init__(
        self,
        batch: Path,
        run_folder: Path,
        *,
        main: str,
        processes: int,
        position: int,
        positions: int,
    ) -> None:
        self.batch, self._main = batch, main
        # Spawned: a heartbeat's thread must not be forked in the middle of a write.
        context = multiprocessing.get_context("spawn")
        self._processes = [
            context.Process(
                target=_work,
                args=(batch, run_folder, main, position, positions, number == 0, os.getpid()),
            )
            for number in range(min(processes, len(read_offsets(batch)) - 1))
        ]
        for process in self._processes:
            process.start()

    def wait(self, seconds: float) -> None:
        """Return when a process ends, at the latest after some time."""
        alive = [process.sentinel for process in self._processes if process.exitcode is None]
        if alive:
            wait(alive, seconds)
        else:
            time.sleep(seconds)

    def broken(self) -> Exception | None:
        """What is wrong with one of them that was killed, or failed by itself; None if none."""
        for process in self._processes:
            if process.exitcode == EXIT_OTHER_CODE:
                return RuntimeError(f"{self._main}: its code is not that with which the job began")
            number = (process.exitcode or 0) - EXIT_REFUSED
            if number in REFUSALS:
                return OSError(number, os.strerror(number), str(self.batch))
            if process.exitcode:
                return RuntimeError(
                    f"process {process.pid}, which did calls of this job, ended with exit code "
                    f"{process.exitcode}"
                )
        return None

    def end(self) -> None:
        """End all of them at once; returns when they are gone."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()


def _work(
    batch: Path,
    run_folder: Path,
    main: str,
    position: int,
    positions: int,
    stays: bool,
    parent: int,
) -> None:
    """Do calls until none is left to begin; one that stays begins those again whose doer died."""
    die_with_parent(parent)
    # Whoever is asked to stop is the parent; this process ends with it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if position:  # the leader's log says who did how many
        set_up_logging()
    lock = os.open(RunFolder(run_folder).calls_lock, os.O_RDWR | os.O_CREAT, 0o644)
    # A later attempt takes it alone, to clear the folder: then the batch is not there any more.
    fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        offsets = read_offsets(batch)
        _require_the_leaders_code(batch, main)
        doer = f"worker {position}" if position else "leader"
        lane = _Lane(batch, offsets, main, doer)
        count = len(lane)
        first = count * position // positions
        lane.begin([*range(first, count), *range(first)])
        if stays:
            lane.redo()
    except FileNotFoundError:
        if batch.exists():
            raise  # else the calls were taken away: all are done, or the leader has ended
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise SystemExit(EXIT_REFUSED + error.errno) from None


def _require_the_leaders_code(batch: Path, main: str) -> None:
    """End this process where its code would not make of a call what the leader's does.

    The code may have been edited, or another version of it lies on this node.
    """
    if main != "__main__":
        importlib.import_module(main)  # what is edited after this is not this process's any more
    if code_digest_now(main) != (batch / CODE).read_text():
        log.error("%s: its code, or what it imports, is not that of the job: does no call", main)
        raise SystemExit(EXIT_OTHER_CODE)


def read_offsets(batch: Path) -> list[int]:
    """Where each of the calls begins in their file, and where the last one ends."""
    return json.loads((batch / "offsets.json").read_text())


class _Lane:
    """One process's view of a batch."""

    def __init__(self, batch: Path, offsets: list[int], main: str, doer: str) -> None:
        self._batch, self._offsets, self._main, self._doer = batch, offsets, main, doer
        self._done: set[int] = set()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def begin(self, order: list[int]) -> None:
        """Do the calls that nobody has begun, in this order."""
        while fresh := self._fresh(order):
            until = time.monotonic() + LIST_SECONDS
            for number in fresh:
                self._take(number)
                if time.monotonic() > until:
                    break  # others have begun some meanwhile

    def redo(self) -> None:
        """Do again what somebody began and did not end, until all are done."""
        while len(self._done) < len(self):
            left = [number for number in range(len(self)) if number not in self._done]
            for number in left[:REDO_LOOKS]:
                self._take(number)
            time.sleep(REDO_SECONDS)

    def _fresh(self, order: list[int]) -> list[int]:
        begun = set(os.listdir(self._batch))
        return [number for number in order if str(number) not in begun]

    def _take(self, number: int) -> None:
        """Do a call, unless it is done or somebody is at it."""
        file = os.open(self._batch / str(number), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if not is_whole(file):
                began = time.monotonic()
                call = unpacked(self._content(number), self._main)
                write_outcome(file, outcome_of(call, self._doer, self._main))
                name = getattr(getattr(call, "func", call), "__name__", "call")
                seconds = time.monotonic() - began
                log.info("call %d of %d: %s: %.1f s", number + 1, len(self), name, seconds)
            self._done.add(number)
        finally:
            os.close(file)

    def _content(self, number: int) -> bytes:
        start, stop = self._offsets[number], self._offsets[number + 1]
        with (self._batch / "calls").open("rb") as calls:
            calls.seek(start)
            return calls.read(stop - start)
