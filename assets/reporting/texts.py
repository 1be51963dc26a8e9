"""What is said of a job at work, in Dagster and on a terminal alike. Free of Dagster."""

import textwrap
from collections.abc import Mapping
from typing import Any

from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder


def visible(text: str) -> str:
    """Return a text of whatever origin so that whatever shows it can only show it.

    Line ends and tabs stay. Any other character that prints nothing stands as it is written in
    Python: a terminal obeys some, and the order of what is read is changed by others (U+202E).
    """
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def visible_line(text: str) -> str:
    """Return the same of a text that stands on one line, as an id, with line ends written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def code_block(text: str) -> str:
    """Return a text as Markdown shows it as found, by indentation: nothing in it can end it."""
    return textwrap.indent(visible(text), "    ", lambda _: True)


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


def units_per_second(status: Mapping[str, Any]) -> float | None:
    """Return the rate of the part of its work that the job is at; None before its first unit."""
    since = status.get("counted_from") or {"done": 0, "time": status.get("ready")}
    done = status["done"] - since["done"]
    if done <= 0 or since["time"] is None or status["heartbeat"] <= since["time"]:
        return None
    return done / (status["heartbeat"] - since["time"])


def rate_text(status: Mapping[str, Any]) -> str:
    """Return `1.25 chunks/s`; empty before the first unit."""
    rate = units_per_second(status)
    return "" if rate is None else f"{float(f'{rate:.3g}'):,.12g} {status['unit']}/s"


def remaining_seconds(status: Mapping[str, Any]) -> float | None:
    """Return the time left by the job, else by the rate of the part of its work that it is at."""
    if status.get("remaining_seconds") is not None:
        return float(status["remaining_seconds"])
    total, rate = status.get("total"), units_per_second(status)
    return None if not total or rate is None else max(0.0, (total - status["done"]) / rate)


def duration(seconds: float) -> str:
    """Return a time span as a person reads it: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def amount(value: float) -> str:
    """Return a number as a person reads it: 950, 12.3k, 4.56M."""
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"
