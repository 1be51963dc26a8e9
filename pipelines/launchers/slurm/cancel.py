"""End jobs of Slurm's: asked first, killed after a few seconds, and never queued again."""

import time
from collections import defaultdict
from collections.abc import Sequence

from assets.launcher import EngineError, EngineUnavailable
from pipelines.launchers.slurm.queue import Client, Entry, Queue, answer

PATIENCE_SECONDS = 5.0  # then SIGKILL to the ranks: a cancelled job is gone within ten seconds
LAST_WORD_SECONDS = 2.0  # for the supervisor, whose ranks are gone, to say how it ended
LONGEST_SECONDS = 30.0  # for Slurm to agree
LOOK_SECONDS = 0.5
AT_WORK = ("RUNNING", "COMPLETING")


def end_jobs(job_ids: Sequence[str], queue: Queue) -> None:
    """End the jobs; returns once all of them have ended.

    Raises:
        EngineUnavailable: the controller does not answer.
        EngineError: a job does not end.
    """
    began, ask = time.monotonic(), queue.ask
    asked: set[str] = set()
    while left := _left(job_ids, queue):
        waited = time.monotonic() - began
        if waited > LONGEST_SECONDS:
            job = left[0]
            raise EngineError(f"job {job.job_id}: {job.state} still, {waited:.0f} s after scancel")
        at_work = [job.job_id for job in left if job.state in AT_WORK]
        pending = [job.job_id for job in left if job.state == "PENDING"]
        # Neither, or for too long at work.
        others = {job.job_id for job in left} - {*at_work, *pending}
        late = sorted({*others, *(at_work if waited > PATIENCE_SECONDS else ())})
        if pending:
            # First, or they begin on what the others leave. No signal: of a task that waits it
            # ends the whole of its array.
            scancel(ask, *together(pending))
        if new := sorted({*at_work} - asked):
            scancel(ask, "--full", "--signal=TERM", *new)
            asked.update(new)
        if late:
            _kill(late, ask, all_of_it=waited > PATIENCE_SECONDS + LAST_WORD_SECONDS)
        time.sleep(LOOK_SECONDS)


def _kill(job_ids: Sequence[str], ask: Client, *, all_of_it: bool) -> None:
    """End the ranks on all nodes as they are; then, or where there are none, everything.

    Of SIGKILL to a whole job Slurm makes SIGTERM, and waits for the cluster's KillWait; to a step
    it is what it says. The rest is ended by a signal that nothing here listens to, and that leaves
    no core file. By the plain scancel the job is cancelled: else it could be queued again.
    """
    jobs = f"--jobs={','.join(job_ids)}"
    said = answer(ask, "squeue", "--steps", "--noheader", jobs, "--format=%i")
    steps = [step.rpartition(".") for step in said.split()]
    ranks = ["".join(step) for step in steps if step[2].isdecimal()]  # and not `4711.batch`
    if ranks:
        scancel(ask, "--signal=KILL", *ranks)
    speaking = {job for job, _, step in steps if step.isdecimal()}
    if rest := [job for job in job_ids if all_of_it or job not in speaking]:
        scancel(ask, "--full", "--signal=USR2", *rest)
        scancel(ask, *rest)


def together(job_ids: Sequence[str]) -> list[str]:
    """Return the tasks of each array as one word, `4711_[0,1,5]`, one request for them all."""
    tasks: dict[str, list[str]] = defaultdict(list)
    for job_id in job_ids:
        array, _, task = job_id.partition("_")
        tasks[array] += [task] if task else []
    return [f"{job}_[{','.join(each)}]" if each else job for job, each in tasks.items()]


def _left(job_ids: Sequence[str], queue: Queue) -> list[Entry]:
    snapshot = queue.look(newer_than=time.time())
    if snapshot.error:
        raise EngineUnavailable(
            f"job {job_ids[0]}: its cancel file asks it to stop; Slurm could not be: "
            f"{snapshot.error}"
        )
    return snapshot.alive(job_ids)


def scancel(ask: Client, *words: str) -> None:
    """Call scancel, whose refusal says nothing.

    A job that has ended, or has not begun, refuses signals; the queue says which it is.
    """
    answer(ask, "scancel", *words)
