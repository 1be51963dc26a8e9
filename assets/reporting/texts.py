"""What is said of a job at work, in Dagster and on a terminal alike. Free of Dagster."""

import textwrap
from collections.abc import Mapping
from typing import Any

from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder


def code_block(text: str) -> str:
    """Return a text as Markdown shows it as found, by indentation: nothing in it can end it."""
    return textwrap.indent(text, "    ", lambda _: True)


def attempt_text(folder: RunFolder, attempt: int) -> str:
    """Return `attempt 3 after preempted`, as far as the end of the one before is known."""
    causes = {row["attempt"]: row.get("cause") for row in attempts.read(folder)}
    before = causes.get(attempt - 1)
    return f"attempt {attempt} after {before}" if before else f"attempt {attempt}"


def progress_text(status: Mapping[str, Any]) -> str:
    """Return `137 of 1,000 steps, loss 3.21`."""
    total = f" of {status['total']:,.12g}" if status.get("total") else ""
    done = f"{status['done']:,.12g}{total} {status['unit']}".strip()
    return f"{done}, {status['message']}" if status["message"] else done


def remaining_seconds(status: Mapping[str, Any]) -> float | None:
    """Return the time left by the job, else by how much it has done since it began to work."""
    if status.get("remaining_seconds") is not None:
        return float(status["remaining_seconds"])
    done, total, ready = status["done"], status.get("total"), status.get("ready")
    if not (done and total and ready):
        return None
    return max(0.0, (status["heartbeat"] - ready) * (total - done) / done)


def duration(seconds: float) -> str:
    """Return a time span as a person reads it: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
