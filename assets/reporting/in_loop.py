"""What a training run evaluated while it trained, as tables, from its metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_STEPS = 5  # a table has a column each
MOST_FAILURES = 20


def in_loop_tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return a row per figure with its values at evenly spaced steps, and what failed.

    Args:
        rows: Of `metrics.jsonl`; without an evaluation there is no table.
    """
    evaluated = [row for row in rows if "evaluation" in row]
    stride = max(1, -(-len(evaluated) // MOST_STEPS))
    shown = evaluated[::-1][::stride][::-1]  # the last among them
    names = dict.fromkeys(name for row in shown for name in row if name.startswith("eval/"))
    figures = [
        {
            "figure": name.removeprefix("eval/"),
            **{f"step {row['step']}": _rounded(row.get(name)) for row in shown},
        }
        for name in names
    ]
    failures = [
        {"step": row["step"], "label": label, "why": why}
        for row in evaluated
        for label, why in row["evaluation"]["failed"].items()
    ]
    tables = {
        "in-loop evaluation": figures,
        "in-loop failures": failures[-MOST_FAILURES:],
    }
    return {title: table for title, table in tables.items() if table}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
