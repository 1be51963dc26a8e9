"""An attempt: whether it goes on, what its end means and what is to be done about it."""

import signal
import time
from dataclasses import replace
from typing import Any

from olmo_core.run import attempts
from olmo_core.run.attempts import CAUSES, Cause, Ended, Next
from olmo_core.run.folder import RunFolder
from olmo_core.run.process import out_of_memory_kills
from olmo_core.supervisor import requeue
from olmo_core.supervisor.failure import Failure, first_failure, is_consequence, says_oom
from olmo_core.supervisor.launch_spec import LaunchSpec

WORD_SECONDS = 15.0  # within which another pod's node says why it failed, over a slow file system

# What a job says of itself by its exit code.
SAID: tuple[Cause, ...] = ("config", "input", "stopped", "running", "diverged")


class Attempt:
    """One start of the command, as far as it has come.

    What status.json says counts by when it changed, never by the time it holds: clocks of nodes
    differ.

    Args:
        folder: The run's.
        spec: Its `stall_timeout_seconds` is how long a job may go without progress, or without a
            heartbeat, before it counts as hung; None: for ever. Starting is time without progress
            too. A rank that waits for another may still use its CPU, so using it counts as progress
            for jobs of one process alone: not every job knows how far it is.
        number: Whose status is meant; that of an earlier one is not there.
    """

    def __init__(self, folder: RunFolder, spec: LaunchSpec, number: int) -> None:
        self.folder, self.spec, self.number = folder, spec, number
        self.code = 0
        self.asked: signal.Signals | None = None  # who asked the job to stop, if anyone
        self.hung = ""  # what was seen of a hang
        self.step: int | None = None
        self.reached_a_step = False
        self.out_of_memory_kills = 0  # since it began; counted when it has ended
        self._kills_before = out_of_memory_kills()
        # Each value of status.json as it was seen last, and since when.
        self._seen: dict[str, tuple[Any, float]] = {
            name: (None, time.monotonic()) for name in ("heartbeat", "progressed", "busy")
        }

    def hang(self) -> str:
        """Return what says that the job hangs; empty while nothing does."""
        self._look()
        if self.spec.stall_timeout_seconds is None:
            return ""
        progress = ("progressed",) if self.spec.distributed else ("progressed", "busy")
        for names, what in ((("heartbeat",), "no heartbeat"), (progress, "no progress")):
            seconds = time.monotonic() - max(self._seen[name][1] for name in names)
            if seconds > self.spec.stall_timeout_seconds:
                return f"{what} for {seconds:.0f} s"
        return ""

    def end(self, code: int) -> None:
        """Take in how the command ended."""
        self._look()
        self.code = code
        self.out_of_memory_kills = out_of_memory_kills() - self._kills_before

    def _look(self) -> None:
        """Take in what status.json says now."""
        status = self.folder.read_status()
        if status is None or status.get("attempt") != self.number:
            return
        for name, (before, _) in self._seen.items():
            if status.get(name) != before:
                self._seen[name] = (status.get(name), time.monotonic())
        self.reached_a_step = status.get("progressed") is not None
        self.step = status.get("step")


def classify_exit(attempt: Attempt) -> tuple[Ended, Failure]:
    """Return how the attempt ended with what is to be done, and what failed first."""
    folder, spec = attempt.folder, attempt.spec
    failure = first_failure(folder, attempt.number, attempt.code)
    deadline = time.monotonic() + (WORD_SECONDS if spec.in_jobset and not attempt.asked else 0)
    while is_consequence(folder, failure) and time.monotonic() < deadline:
        time.sleep(0.5)
        failure = first_failure(folder, attempt.number, attempt.code)
    killed = attempt.out_of_memory_kills > 0 and failure.signal == signal.SIGKILL
    failure = replace(failure, out_of_memory=failure.out_of_memory or killed)
    ended = Ended(
        cause=_cause(attempt, failure),
        exit_code=failure.exit_code,
        signal=failure.signal,
        rank=failure.rank,
        node=failure.node,
        step=attempt.step,
        checkpoint_step=attempts.checkpoint_step(folder),
    )
    if ended.cause == "node_lost":  # which one, of a JobSet only the controller knows
        ended = replace(ended, rank=None, node=requeue.lost_nodes(spec.slurm_job) or None)
    return replace(ended, next=_next(attempt, ended)), failure


def _cause(attempt: Attempt, failure: Failure) -> Cause:
    folder, spec = attempt.folder, attempt.spec
    if attempt.code == 0 and folder.finished:
        return "finished"
    if attempt.hung:
        return "hung"
    code = failure.exit_code
    cause: Cause | None = next((said for said in SAID if CAUSES[said].exit_code == code), None)
    if cause is not None and cause != "stopped":
        return cause
    # A node runner that was asked to stop says so in the file.
    if attempt.asked or cause == "stopped" or folder.stops_at_once(attempt.number):
        if folder.cancel.exists():
            return "stopped"
        if attempt.asked == signal.SIGUSR1:
            return "time_limit"
        if requeue.job_state(spec.slurm_job) == "CANCELLED":
            return "stopped"
        # A JobSet also asks the pods that are left when another one is lost. Their ranks then wait
        # in vain for that one's, and reach no safe point.
        in_vain = spec.in_jobset and cause != "stopped" and failure.signal != signal.SIGTERM
        return "node_lost" if in_vain or requeue.lost_nodes(spec.slurm_job) else "preempted"
    if spec.in_jobset and is_consequence(folder, failure):
        return "node_lost"  # every rank blames another, and that one has said nothing
    if says_oom(folder, failure):
        return "out_of_memory"
    return "killed" if failure.signal is not None else "error"


def _next(attempt: Attempt, ended: Ended) -> Next:
    spec = attempt.spec
    if ended.cause == "finished":
        return ""
    if ended.cause in ("preempted", "time_limit"):
        return "requeue" if spec.slurm_job is not None or spec.in_pod else "stop"
    if ended.cause in ("stopped", "config", "input", "diverged"):
        return "stop"
    if ended.cause == "error" and not attempt.reached_a_step:
        return "stop"  # it would fail again in the same way
    if attempts.failures_in_a_row(attempt.folder, then=ended) >= spec.max_failures:
        return "stop"
    return "requeue" if ended.cause == "node_lost" or spec.in_jobset else "resume"
