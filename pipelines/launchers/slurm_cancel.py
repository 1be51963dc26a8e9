"""End a job of Slurm's: asked first, killed after a few seconds, and never queued again."""

import contextlib
import time

from pipelines.launchers.slurm_queue import Client, Entry, Queue, SlurmError, SlurmUnavailable

PATIENCE_SECONDS = 6.0  # then SIGKILL: a cancelled job is gone within ten seconds
LONGEST_SECONDS = 30.0  # for Slurm to agree
LOOK_SECONDS = 0.5
AT_WORK = ("RUNNING", "COMPLETING")


def end_job(job_id: str, queue: Queue, *, ask: Client) -> None:
    """Return once the job has ended.

    Raises:
        SlurmUnavailable: the controller does not answer.
        SlurmError: the job does not end.
    """
    began = time.monotonic()
    asked = False
    while (entry := _now(job_id, queue)) is not None and entry.alive:
        waited = time.monotonic() - began
        if waited > LONGEST_SECONDS:
            raise SlurmError(f"job {job_id}: {entry.state} still, {waited:.0f} s after scancel")
        if entry.state in AT_WORK and not asked:
            _try(ask, "scancel", "--full", "--signal=TERM", job_id)
            asked = True
        elif entry.state == "PENDING":
            # No signal: of a task that waits it ends the whole of its array.
            _try(ask, "scancel", job_id)
        elif entry.state not in AT_WORK or waited > PATIENCE_SECONDS:
            # A plain scancel would wait for the cluster's KillWait, but for it alone a job is
            # cancelled: otherwise it could be queued again.
            _try(ask, "scancel", "--full", "--signal=KILL", job_id)
            _try(ask, "scancel", job_id)
        time.sleep(LOOK_SECONDS)


def _now(job_id: str, queue: Queue) -> Entry | None:
    snapshot = queue.look(newer_than=time.time())
    if snapshot.error:
        raise SlurmUnavailable(
            f"job {job_id}: its cancel file asks it to stop; Slurm could not be: {snapshot.error}"
        )
    return snapshot.entries.get(job_id)


def _try(ask: Client, *command: str) -> None:
    """A job that has ended, or has not begun, refuses signals; the queue says which it is."""
    with contextlib.suppress(SlurmError):
        ask(command)
