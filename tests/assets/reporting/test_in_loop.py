"""Tables of what a run evaluated while it trained."""

from typing import Any

from assets.reporting.in_loop import MOST_STEPS, in_loop_tables


def row(step: int, failed: dict[str, str] | None = None, **figures: float) -> dict[str, Any]:
    named = {f"eval/{name}": value for name, value in figures.items()}
    return {
        "step": step,
        "train/CrossEntropyLoss": 3.0,
        **named,
        "evaluation": {"failed": failed or {}},
    }


def test_a_run_without_evaluations_has_no_table() -> None:
    assert in_loop_tables([{"step": 1, "train/CrossEntropyLoss": 3.0}]) == {}


def test_a_row_per_figure_and_the_last_step_among_the_columns() -> None:
    rows = [row(1000 * step, piqa=step / 3) for step in range(1, 13)]
    rows[-1]["eval/late"] = 1.0
    tables = in_loop_tables(rows)
    assert [*tables] == ["in-loop evaluation"]
    piqa, late = tables["in-loop evaluation"]
    assert piqa["figure"] == "piqa"
    assert [*piqa][1:] == ["step 3000", "step 6000", "step 9000", "step 12000"]
    assert len(piqa) <= MOST_STEPS + 1
    assert piqa["step 3000"] == 1.0
    assert (late["step 9000"], late["step 12000"]) == (None, 1.0)


def test_failures_are_listed() -> None:
    tables = in_loop_tables([row(5, {"piqa": "OSError: gone"}), row(10)])
    assert tables == {"in-loop failures": [{"step": 5, "label": "piqa", "why": "OSError: gone"}]}
