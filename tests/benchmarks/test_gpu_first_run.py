"""The runner of a lease: whatever a stage does, there is a line for it, and the next one runs."""

import sys
from typing import Any

from benchmarks.gpu_first_run import Stage, run

FAILS = 'import sys; print(\'{"what": "half"}\', flush=True); sys.exit("no such kernel")'
HANGS = 'print(\'{"what": "half"}\', flush=True); import time; time.sleep(600)'
SAYS = "print('a library says something'); print('{\"what\": \"whole\"}')"


def stage(name: str, code: str, *, seconds: float = 60, skipped: str = "") -> Stage:
    command = (sys.executable, "-S", "-c", code)
    return Stage(name=name, command=command, seconds=seconds, skipped=skipped)


def lines_of(*stages: Stage, minutes: float = 1) -> tuple[bool, list[dict[str, Any]]]:
    """Whether all were good, and what was told, without what depends on the clock."""
    lines: list[dict[str, Any]] = []
    good = run(stages, lines.append, minutes=minutes)
    return good, [{key: value for key, value in x.items() if key != "seconds"} for x in lines]


def test_the_next_stage_runs_after_one_that_fails_and_one_that_hangs() -> None:
    good, lines = lines_of(
        stage("fails", FAILS), stage("hangs", HANGS, seconds=2), stage("says", SAYS)
    )
    assert not good
    assert lines == [
        {"stage": "fails", "what": "half"},
        {"stage": "fails", "status": "failed", "exit_code": 1, "error": ["no such kernel"]},
        {"stage": "hangs", "what": "half"},
        {"stage": "hangs", "status": "timed out", "exit_code": -15, "error": []},
        {"stage": "says", "said": "a library says something"},
        {"stage": "says", "what": "whole"},
        {"stage": "says", "status": "done"},
    ]


def test_what_does_not_run_says_why_and_is_no_failure() -> None:
    good, lines = lines_of(stage("peer", SAYS, skipped="no peer is given"))
    assert good
    assert lines == [{"stage": "peer", "status": "skipped", "reason": "no peer is given"}]
    good, lines = lines_of(stage("late", SAYS), minutes=0.1)
    assert good
    assert lines == [
        {"stage": "late", "status": "skipped", "reason": "6 s of 0.1 minutes are left"}
    ]
