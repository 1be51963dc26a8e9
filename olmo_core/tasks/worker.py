"""Do calls of a job that leads elsewhere, until its run is over: `… worker RUN_FOLDER MODULE`.

The engine starts workers beside a job, on nodes of their own; they meet in the run folder. None is
needed: what a worker does not do, or dies over, the leader does.
"""

import argparse
import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import psutil

from olmo_core import environment
from olmo_core.files import PARTIAL
from olmo_core.run.command import set_up_logging
from olmo_core.run.folder import RunFolder, is_locked
from olmo_core.run.process import TreeUsage
from olmo_core.tasks.lanes import BUSY, Lanes

log = logging.getLogger("olmo")

# A job that was preempted comes back after two minutes at the earliest (Slurm's cred_expire), but
# it may also wait for this very node.
LEADERLESS_SECONDS = 180.0
POLL_SECONDS = 0.5
BUSY_SECONDS = 2.0  # between two looks whether its processes compute
POLLS_A_SECOND = 50  # of all workers: a look at the leader's lock takes it for a moment


def main(arguments: list[str] | None = None) -> None:
    """Do calls of the job of a run folder; exits 0 when there is nothing more to come."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.tasks.worker",
        description="Do calls of the job that leads in a run folder, until its run is over.",
        epilog="OLMO_WORKER is the number of this worker, from 1; OLMO_WORKERS how many there are.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("module", metavar="MODULE", help="of the job")
    given = parser.parse_args(arguments)
    number, workers = (
        os.environ.get(name, "") for name in (environment.WORKER, environment.WORKERS)
    )
    if not (number.isdecimal() and workers.isdecimal() and 1 <= int(number) <= int(workers)):
        parser.error(f"OLMO_WORKER={number} OLMO_WORKERS={workers}: expected 1 and 1, 2 and 3, …")
    set_up_logging()
    for asking in (signal.SIGTERM, signal.SIGUSR1):  # cancelled, preempted; the time limit is near
        signal.signal(asking, _leave)
    folder = RunFolder(given.folder.absolute())
    Worker(folder, given.module, number=int(number), workers=int(workers)).run()


class Worker:
    """One node's share of the calls of a job."""

    def __init__(self, folder: RunFolder, module: str, *, number: int, workers: int) -> None:
        self.folder, self.module = folder, module
        self.number, self.workers = number, workers  # from 1, of how many
        self.processes = environment.processes()
        self._lanes: Lanes | None = None
        self._usage, self._looked = TreeUsage(psutil.Process()), 0.0

    def run(self) -> None:
        """Return when the run is over, or nobody has led it for `LEADERLESS_SECONDS`."""
        log.info("worker %d of %d, %d processes", self.number, self.workers, self.processes)
        seen = time.monotonic()
        try:
            while not (reason := self._over()):
                leads = is_locked(self.folder.path / "job.lock")
                self._work_on(_batch(self.folder) if leads else None)
                self._say_if_busy()
                if leads:
                    seen = time.monotonic()
                elif time.monotonic() - seen > LEADERLESS_SECONDS:
                    reason = f"nobody has led it for {LEADERLESS_SECONDS:.0f} s"
                    break
                time.sleep(max(POLL_SECONDS, self.workers / POLLS_A_SECOND))
        finally:
            self._work_on(None)
        log.info("ends: %s", reason)

    def _over(self) -> str:
        """Why there is nothing more to come; empty while there may be."""
        if self.folder.finished:
            return "the run is finished"
        if self.folder.cancel.exists():
            return "the run was asked to stop"
        if self.folder.failure.exists():
            return "the run was given up"
        return ""

    def _say_if_busy(self) -> None:
        """Let the leader know that its calls are at work: one may take hours."""
        if self._lanes is None or time.monotonic() - self._looked < BUSY_SECONDS:
            return
        self._looked = time.monotonic()
        _, busy = self._usage.look()
        if busy:
            with contextlib.suppress(FileNotFoundError):  # the calls were taken away
                (self._lanes.batch / f"{BUSY}{self.number}").touch()

    def _work_on(self, batch: Path | None) -> None:
        """Have processes at work on this batch, and on no other."""
        if self._lanes is not None and self._lanes.batch != batch:
            if broken := self._lanes.broken():
                log.warning("%s; the leader, or another worker, does it", broken)
            self._lanes.end()  # in the middle of a call too: nobody waits for it any more
            self._lanes = None
        if self._lanes is None and batch is not None:
            with contextlib.suppress(FileNotFoundError):  # they were taken away
                self._lanes = Lanes(
                    batch,
                    self.folder.path,
                    main=self.module,
                    processes=self.processes,
                    position=self.number,
                    positions=self.workers + 1,
                )


def _leave(number: int, frame: object) -> None:
    """End on request; the calls at work are begun again elsewhere."""
    log.info("ends: %s", signal.Signals(number).name)
    raise SystemExit(0)


def _batch(folder: RunFolder) -> Path | None:
    """The calls that the leader waits for; None while there are none."""
    try:
        names = os.listdir(folder.path / "work" / "calls")
    except FileNotFoundError:
        return None
    return next(
        (folder.path / "work" / "calls" / name for name in names if not name.endswith(PARTIAL)),
        None,
    )


if __name__ == "__main__":
    main()
