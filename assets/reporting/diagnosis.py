"""What a failed job leaves to read: cause, place, the end of the right log, what to do."""

from collections.abc import Mapping
from typing import Any

from assets.launcher import JobState
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.failure import Failure, exit_status, last_lines, says_oom, signal_name

MOST_ATTEMPTS = 5  # of which a line is told, the last ones

# What engines say of a job's end, where that says more than its exit code.
_ENDS = {
    "OUT_OF_MEMORY": "it ran out of the memory that it was given",
    "TIMEOUT": "it reached the time limit",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not come up",
    "DEADLINE": "it reached its deadline in the queue",
    "PREEMPTED": "it was preempted, and not put into the queue again",
    "CANCELLED": "it was cancelled",
    "OOMKilled": "it ran out of the memory that it was given",
    "DeadlineExceeded": "it reached the time limit",
    "Evicted": "its node needed the room",
}


def diagnosis(name: str, folder: RunFolder, state: JobState) -> str:
    """Return several lines on why a job ended without a result.

    Args:
        name: The asset's.
        folder: The run's.
        state: What the engine says of the job, which is at an end.
    """
    failure = folder.read(folder.failure)
    launch = folder.read(folder.launch) or {}
    lines = causes(folder, state)
    lines[0] = f"{name}: {lines[0]}"
    lines += _earlier(folder)
    checkpoint = folder.last_checkpoint()
    if checkpoint is not None:
        lines.append(f"last whole checkpoint: {checkpoint}")
    log = str((failure or {}).get("log") or launch.get("log", "log/job.log"))
    end = failure["last_lines"] if failure else last_lines(folder, log)
    if end:
        lines += [f"last lines of {folder.path / log}:", *(f"  {line}" for line in end)]
    if launch.get("command_line"):
        lines.append(f"by hand: {launch['command_line']}")
    return "\n".join(lines)


def causes(folder: RunFolder, state: JobState) -> list[str]:
    """Return one line or several on what ended a job, as its supervisor and its engine say."""
    failure = folder.read(folder.failure)
    if failure:  # what the supervisor found
        said = [str(failure[key]) for key in ("summary", "error") if failure[key]]
        lines = [*said, *_end(failure["exit_code"], failure["signal"])]
    else:
        lines = _gone(folder, state, folder.read(folder.launch) or {})
    if state.ended:
        meaning = f" ({_ENDS[state.ended]})" if state.ended in _ENDS else ""
        lines.append(f"the engine says: {state.ended}{meaning}")
    return lines


def _gone(folder: RunFolder, state: JobState, launch: Mapping[str, Any]) -> list[str]:
    """Return what can be seen of a job that had no supervisor, or has lost it."""
    status = folder.read_status() or {}
    lines = [str(status.get("error") or "the job ended without a result")]
    exit_code, number = (None, None) if state.exit_code is None else exit_status(state.exit_code)
    log = str(launch.get("log", ""))
    hint = "; the kernel may have run out of memory" if number == 9 else ""
    lines += [f"{line}{hint}" for line in _end(exit_code, number)]
    if says_oom(folder, Failure(log=log)):
        lines.append("it ran out of memory: its log says so")
    if status:
        lines.append(f"on {status['host']}, attempt {status['attempt']}")
    return lines


def _end(exit_code: int | None, number: int | None) -> list[str]:
    if number is not None:
        return [f"ended by {signal_name(number)}"]
    return [] if exit_code is None else [f"exit code {exit_code}"]


def _earlier(folder: RunFolder) -> list[str]:
    """Return one line per attempt, where there was more than one."""
    ends = [*attempts.ended(folder).values()][-MOST_ATTEMPTS:]
    if len(ends) < 2:
        return []
    lines: list[str] = []
    for row in ends:
        words = [f"attempt {row['attempt']}: {row['cause']}"]
        if row["signal"] is not None:
            words.append(signal_name(row["signal"]))
        elif row["exit_code"]:
            words.append(f"exit code {row['exit_code']}")
        if row["rank"] is not None:
            words.append(f"rank {row['rank']} on {row['node']}")
        if row["step"] is not None:
            words.append(f"at step {row['step']}")
        lines.append(", ".join(words))
    return lines
