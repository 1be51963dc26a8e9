"""What an attempt's end means and what is to be done about it."""

import signal
import time
from dataclasses import dataclass, replace

from olmo_core.run import attempts
from olmo_core.run.attempts import CAUSES, Cause, Ended, Next
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor import requeue
from olmo_core.supervisor.failure import (
    Failure,
    first_failure,
    is_consequence,
    says_out_of_memory,
)
from olmo_core.supervisor.launch_spec import LaunchSpec

WORD_SECONDS = 15.0  # within which another pod's node says why it failed, over a slow file system

# What a job says of itself by its exit code.
SAID: tuple[Cause, ...] = ("config", "input", "stopped", "running", "diverged")


@dataclass(kw_only=True)
class Attempt:
    """One start of the command, as far as it has come."""

    number: int
    code: int = 0
    asked: signal.Signals | None = None  # who asked the job to stop, if anyone
    hung: str = ""  # what was seen of a hang
    out_of_memory_kills: int = 0
    step: int | None = None
    reached_a_step: bool = False


def classify_exit(folder: RunFolder, attempt: Attempt, spec: LaunchSpec) -> tuple[Ended, Failure]:
    """Return how the attempt ended with what is to be done, and what failed first."""
    failure = first_failure(folder, attempt.number, attempt.code)
    deadline = time.monotonic() + (WORD_SECONDS if spec.in_jobset and not attempt.asked else 0)
    while is_consequence(folder, failure) and time.monotonic() < deadline:
        time.sleep(0.5)
        failure = first_failure(folder, attempt.number, attempt.code)
    killed = attempt.out_of_memory_kills > 0 and failure.signal == signal.SIGKILL
    failure = replace(failure, out_of_memory=failure.out_of_memory or killed)
    ended = Ended(
        cause=_cause(folder, attempt, failure, spec),
        exit_code=failure.exit_code,
        signal=failure.signal,
        rank=failure.rank,
        node=failure.node,
        step=attempt.step,
        checkpoint_step=attempts.checkpoint_step(folder),
    )
    if ended.cause == "node_lost":  # which one, of a JobSet only the controller knows
        ended = replace(ended, rank=None, node=requeue.lost_nodes(spec.slurm_job) or None)
    return replace(ended, next=_next(folder, attempt, ended, spec)), failure


def _cause(folder: RunFolder, attempt: Attempt, failure: Failure, spec: LaunchSpec) -> Cause:
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
    if says_out_of_memory(folder, failure):
        return "out_of_memory"
    return "killed" if failure.signal is not None else "error"


def _next(folder: RunFolder, attempt: Attempt, ended: Ended, spec: LaunchSpec) -> Next:
    if ended.cause == "finished":
        return ""
    if ended.cause in ("preempted", "time_limit"):
        return "requeue" if spec.slurm_job is not None or spec.in_pod else "stop"
    if ended.cause in ("stopped", "config", "input", "diverged"):
        return "stop"
    if ended.cause == "error" and not attempt.reached_a_step:
        return "stop"  # a mistake that will be made again, not weather
    if attempts.failures_in_a_row(folder, then=ended) >= spec.max_failures:
        return "stop"
    return "requeue" if ended.cause == "node_lost" or spec.in_jobset else "resume"
