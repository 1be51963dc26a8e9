"""`attempts.jsonl`: when each attempt at a run began, where, how it ended and what came next.

The supervisor appends a line at the beginning and one at the end. An attempt that has begun fences
all earlier ones: a job whose node was given up, but which lives on, sees it and ends.
"""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from olmo_core.errors import ExitCode
from olmo_core.files import append_line, fsync, read_end
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder, read_rows

Cause = Literal[
    "finished",
    "stopped",  # asked to, for good
    "preempted",
    "time_limit",
    "hung",
    "killed",  # by a signal
    "out_of_memory",
    "error",
    "config",
    "input",
    "running",  # another job holds the folder
    "diverged",
    "node_lost",  # its end was never written: the supervisor went with it
]
Next = Literal["", "resume", "requeue", "stop"]


@dataclass(frozen=True)
class Meaning:
    """What a cause means: in a sentence about the job, and for whoever started it."""

    words: str
    exit_code: ExitCode = ExitCode.FAILED  # of the supervisor, if it gives the run up
    failure: bool = False  # a repetition may mend it; else it is a wish, or the same again


CAUSES: Mapping[Cause, Meaning] = {
    "finished": Meaning("finished", ExitCode.FINISHED),
    "stopped": Meaning("was stopped on request", ExitCode.STOPPED),
    "preempted": Meaning("was asked to make way", ExitCode.STOPPED),
    "time_limit": Meaning("reached the time limit", ExitCode.STOPPED),
    "hung": Meaning("made no progress", failure=True),
    "killed": Meaning("was ended by {signal}", failure=True),
    "out_of_memory": Meaning("ran out of memory", failure=True),
    "error": Meaning("failed with exit code {exit_code}", failure=True),
    "config": Meaning("was refused: its configuration is wrong (exit code 2)", ExitCode.CONFIG),
    "input": Meaning("was refused: its input is bad (exit code 3)", ExitCode.INPUT),
    "running": Meaning(
        "found another job at work in its folder (exit code 5)", ExitCode.RUNNING, failure=True
    ),
    "diverged": Meaning(
        "diverged: the loss or the gradient is not a number (exit code 6)", ExitCode.DIVERGED
    ),
    "node_lost": Meaning("was lost with its node", failure=True),
}
FAILURES = frozenset(cause for cause, meaning in CAUSES.items() if meaning.failure)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended."""

    cause: Cause
    exit_code: int | None = None
    signal: int | None = None
    rank: int | None = None  # the one that failed first
    node: str | None = None
    step: int | None = None  # that the attempt had reached
    checkpoint_step: int | None = None  # of the last whole checkpoint
    next: Next = ""


def read(folder: RunFolder) -> list[dict[str, Any]]:
    """Return all lines in the order of writing; torn ones (a crash) are passed over."""
    return [row for row in read_rows(folder.attempts) if isinstance(row.get("attempt"), int)]


def began(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """Return what was written at the beginning of each attempt, by its number."""
    return {row["attempt"]: row for row in read(folder) if row.get("event") == "began"}


def ended(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """Return what was written at the end of each attempt, by its number."""
    return {row["attempt"]: row for row in read(folder) if row.get("event") == "ended"}


def latest(folder: RunFolder) -> int:
    """Return the number of the last attempt that has begun; 0 if none has."""
    return max(began(folder), default=0)


def has_failed(folder: RunFolder, attempt: int) -> bool:
    """Return whether an attempt has been given up, by its supervisor or by the next one."""
    return latest(folder) > attempt or ended(folder).get(attempt, {}).get("cause") in FAILURES


def next_number(folder: RunFolder) -> int:
    """Return the number of the attempt that begins now: above all earlier ones and submissions."""
    return max(_submission(folder) or 1, latest(folder) + 1)


def begin(
    folder: RunFolder,
    *,
    engine: str,
    job_id: str | None,
    nodes: Sequence[str] = (),
    restart: int | None = None,
) -> int:
    """Write that an attempt begins; return its number.

    An earlier one without an end has been lost together with its supervisor, and is given one.
    """
    before = latest(folder)
    if before and before not in ended(folder):
        host, step = began(folder)[before].get("host"), checkpoint_step(folder)
        lost = Ended(cause="node_lost", node=host, checkpoint_step=step, next="resume")
        end(folder, before, lost)
    number = next_number(folder)
    _append(
        folder,
        {
            "attempt": number,
            "event": "began",
            "time": time.time(),
            "submission": _submission(folder),
            "engine": engine,
            "job_id": job_id,
            "host": socket.gethostname(),
            "nodes": list(nodes),
            "restart": restart,  # of a JobSet: its other pods find their attempt by it
            # Its devices and their power: a later submission may be of another place.
            "place": (folder.read(folder.launch) or {}).get("place"),
        },
    )
    return number


def end(folder: RunFolder, attempt: int, how: Ended) -> None:
    """Write how an attempt ended and what comes next."""
    _append(folder, {"attempt": attempt, "event": "ended", "time": time.time(), **asdict(how)})


def failures_in_a_row(folder: RunFolder, *, then: Ended | None = None) -> int:
    """Return how many of the last attempts in a row failed without a new whole checkpoint.

    Only those of the current submission: whoever submits again has looked at the failure.

    Args:
        folder: The run's.
        then: How the last attempt ends, if that has not been written yet.
    """
    begun, ends = began(folder), ended(folder)
    if then is not None:
        ends[latest(folder)] = asdict(then)

    def since(attempt: int) -> tuple[int | None, int | None]:
        return begun.get(attempt, {}).get("submission"), ends[attempt]["checkpoint_step"]

    numbers = sorted(ends, reverse=True)
    for count, number in enumerate(numbers):
        if ends[number]["cause"] not in FAILURES or since(number) != since(numbers[0]):
            return count
    return len(numbers)


def _submission(folder: RunFolder) -> int | None:
    """Return the number of the submission, of which a job that was started by hand has none."""
    claim = folder.read(folder.claim)
    return int(claim["submission"]) if claim else None


def checkpoint_step(folder: RunFolder) -> int | None:
    """Return the step of the last whole checkpoint; None if there is none."""
    checkpoint = folder.last_checkpoint()
    return int(checkpoint.name.removeprefix("step")) if checkpoint else None


def _append(folder: RunFolder, row: Mapping[str, Any]) -> None:
    line = json.dumps({"schema_version": SCHEMA_VERSION, **row})
    torn = folder.attempts.exists() and read_end(folder.attempts, 1) not in (b"", b"\n")
    append_line(folder.attempts, "\n" * torn + line)
    fsync(folder.attempts)
