"""`attempts.jsonl`: when each attempt at a run began, where, how it ended and what came next.

The supervisor appends a line at the beginning and one at the end. An attempt that has begun fences
all earlier ones: a job whose node was given up, but which lives on, sees it and ends.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from olmo_core.run.folder import SCHEMA_VERSION, RunFolder

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

# What a repetition may mend; the others are somebody's wish, or the same again.
FAILURES: frozenset[Cause] = frozenset(
    {"hung", "killed", "out_of_memory", "error", "running", "node_lost"}
)


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
    try:
        lines = folder.attempts.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(cast(dict[str, Any], row).get("attempt"), int):
            rows.append(cast(dict[str, Any], row))
    return rows


def latest(folder: RunFolder) -> int:
    """Return the number of the last attempt that has begun; 0 if none has."""
    return max((row["attempt"] for row in read(folder) if row.get("event") == "began"), default=0)


def has_failed(folder: RunFolder, attempt: int) -> bool:
    """Return whether an attempt has been given up, by its supervisor or by the next one."""
    return latest(folder) > attempt or any(
        row["attempt"] == attempt and row.get("event") == "ended" and row["cause"] in FAILURES
        for row in read(folder)
    )


def next_number(folder: RunFolder) -> int:
    """Return the number of the attempt that begins now: above all earlier ones and submissions."""
    claim = folder.read(folder.claim)
    return max(int(claim["submission"]) if claim else 1, latest(folder) + 1)


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
    rows = read(folder)
    begun = latest(folder)
    if begun and not any(row["attempt"] == begun and row.get("event") == "ended" for row in rows):
        end(
            folder,
            begun,
            Ended(
                cause="node_lost",
                node=next((row.get("host") for row in rows if row["attempt"] == begun), None),
                checkpoint_step=checkpoint_step(folder),
                next="resume",
            ),
        )
    number = next_number(folder)
    claim = folder.read(folder.claim)
    _append(
        folder,
        {
            "attempt": number,
            "event": "began",
            "time": time.time(),
            "submission": int(claim["submission"]) if claim else None,
            "engine": engine,
            "job_id": job_id,
            "host": socket.gethostname(),
            "nodes": list(nodes),
            "restart": restart,  # of a JobSet: its other pods find their attempt by it
        },
    )
    return number


def end(folder: RunFolder, attempt: int, ended: Ended) -> None:
    """Write how an attempt ended and what comes next."""
    row = {"attempt": attempt, "event": "ended", "time": time.time(), **asdict(ended)}
    _append(folder, row)


def failures_in_a_row(folder: RunFolder, *, then: Ended | None = None) -> int:
    """Return how many of the last attempts in a row failed without a new whole checkpoint.

    Only those of the current submission: whoever submits again has looked at the failure.

    Args:
        folder: The run's.
        then: How the last attempt ends, if that has not been written yet.
    """
    rows = read(folder)
    began = {row["attempt"]: row for row in rows if row.get("event") == "began"}
    ends = [row for row in rows if row.get("event") == "ended"]
    if then is not None:
        ends.append({"attempt": latest(folder), **asdict(then)})
    count = 0
    for row in reversed(ends):
        if (
            row["cause"] not in FAILURES
            or row["checkpoint_step"] != ends[-1]["checkpoint_step"]
            or _submission(began, row) != _submission(began, ends[-1])
        ):
            break
        count += 1
    return count


def _submission(began: Mapping[int, Mapping[str, Any]], row: Mapping[str, Any]) -> int | None:
    return began.get(row["attempt"], {}).get("submission")


def checkpoint_step(folder: RunFolder) -> int | None:
    """Return the step of the last whole checkpoint; None if there is none."""
    checkpoint = folder.last_checkpoint()
    return int(checkpoint.name.removeprefix("step")) if checkpoint else None


def _append(folder: RunFolder, row: Mapping[str, Any]) -> None:
    line = json.dumps({"schema_version": SCHEMA_VERSION, **row}) + "\n"
    with folder.attempts.open("ab+") as attempts:
        size = attempts.seek(0, os.SEEK_END)
        attempts.seek(max(0, size - 1))
        torn = size and attempts.read(1) != b"\n"
        attempts.write(("\n" if torn else "").encode() + line.encode())
        attempts.flush()
        os.fsync(attempts.fileno())
