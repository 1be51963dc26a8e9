"""What an attempt's end means and what is to be done about it."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace

from olmo_core.errors import ExitCode
from olmo_core.run import attempts
from olmo_core.run.attempts import Cause, Ended, Next
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor import requeue
from olmo_core.supervisor.failure import Failure, first_failure, says_out_of_memory

CAUSE_OF_EXIT: Mapping[int | None, Cause] = {
    ExitCode.CONFIG: "config",
    ExitCode.INPUT: "input",
    ExitCode.STOPPED: "stopped",
    ExitCode.RUNNING: "running",
    ExitCode.DIVERGED: "diverged",
}
EXIT_OF_CAUSE: Mapping[Cause, int] = {
    "finished": ExitCode.FINISHED,
    "config": ExitCode.CONFIG,
    "input": ExitCode.INPUT,
    "stopped": ExitCode.STOPPED,
    "preempted": ExitCode.STOPPED,
    "time_limit": ExitCode.STOPPED,
    "running": ExitCode.RUNNING,
    "diverged": ExitCode.DIVERGED,
}


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


def classify_exit(
    folder: RunFolder, attempt: Attempt, *, max_failures: int, slurm_job: str | None
) -> tuple[Ended, Failure]:
    """How the attempt ended, what failed first, and what is to be done."""
    failure = first_failure(folder, attempt.number, attempt.code)
    killed = attempt.out_of_memory_kills > 0 and failure.signal == signal.SIGKILL
    failure = replace(failure, out_of_memory=failure.out_of_memory or killed)
    ended = Ended(
        cause=_cause(folder, attempt, failure, slurm_job),
        exit_code=failure.exit_code,
        signal=failure.signal,
        rank=failure.rank,
        node=failure.node,
        step=attempt.step,
        checkpoint_step=attempts.checkpoint_step(folder),
    )
    if ended.cause == "node_lost" and (lost := requeue.lost_nodes(slurm_job)):
        ended = replace(ended, rank=None, node=lost)
    if ended.cause in ("preempted", "time_limit"):
        possible = slurm_job is not None or requeue.exit_for_another_turn() is not None
        return replace(ended, next="requeue" if possible else "stop"), failure
    return replace(ended, next=_next(folder, attempt, ended, max_failures)), failure


def _cause(folder: RunFolder, attempt: Attempt, failure: Failure, slurm_job: str | None) -> Cause:
    if attempt.code == 0 and folder.finished:
        return "finished"
    if attempt.hung:
        return "hung"
    cause = CAUSE_OF_EXIT.get(failure.exit_code)
    if cause in ("config", "input", "diverged", "running"):
        return cause
    if attempt.asked or cause == "stopped" or _asked_elsewhere(folder, attempt.number):
        if folder.cancel.exists():
            return "stopped"
        if attempt.asked == signal.SIGUSR1:
            return "time_limit"
        if requeue.job_state(slurm_job) == "CANCELLED":
            return "stopped"
        return "node_lost" if requeue.lost_nodes(slurm_job) else "preempted"
    if attempt.code == requeue.exit_for_another_turn():
        return "node_lost"
    if says_out_of_memory(folder, failure):
        return "out_of_memory"
    return "killed" if failure.signal is not None else "error"


def _asked_elsewhere(folder: RunFolder, number: int) -> bool:
    """Whether a node runner was asked to stop, which says so in the file."""
    return folder.stop.exists() and folder.stop.read_text() == str(number)


def _next(folder: RunFolder, attempt: Attempt, ended: Ended, max_failures: int) -> Next:
    if ended.cause == "finished":
        return ""
    if ended.cause in ("stopped", "config", "input", "diverged"):
        return "stop"
    if ended.cause == "error" and not attempt.reached_a_step:
        return "stop"  # a mistake that will be made again, not weather
    failures = attempts.failures_in_a_row(folder, then=ended)
    if failures >= max_failures:
        return "stop"
    return "requeue" if ended.cause == "node_lost" else "resume"
