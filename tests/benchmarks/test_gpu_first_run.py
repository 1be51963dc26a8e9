"""A first run on a GPU: whatever a part does, there is a line for it, and the next one runs."""

import argparse
import os
import sys
from typing import Any

import pytest

from benchmarks.gpu_first_run import ROOT, Part, parts_of, run

FAILS = 'import sys; print(\'{"what": "half"}\', flush=True); sys.exit("no such kernel")'
HANGS = """
import json, subprocess
child = subprocess.Popen(["sleep", "600"])
print(json.dumps({"child": child.pid}), flush=True)
child.wait()
"""
SAYS = """
import sys
sys.stdout.buffer.write(b"a library says \\xff\\n")
print('{"what": "whole"}')
"""


def part(name: str, code: str, *, seconds: float = 60, skipped: str = "") -> Part:
    command = (sys.executable, "-S", "-c", code)
    return Part(name=name, command=command, seconds=seconds, skipped=skipped)


def lines_of(*parts: Part, minutes: float = 1) -> tuple[bool, list[dict[str, Any]]]:
    """Whether all were good, and what was told, without what depends on the clock."""
    lines: list[dict[str, Any]] = []
    good = run(parts, lines.append, minutes=minutes)
    return good, [{key: value for key, value in x.items() if key != "seconds"} for x in lines]


def test_the_next_part_runs_after_one_that_fails_and_one_that_hangs() -> None:
    good, lines = lines_of(
        part("fails", FAILS), part("hangs", HANGS, seconds=2), part("says", SAYS)
    )
    assert not good
    child = lines[2].pop("child")
    with pytest.raises(ProcessLookupError):  # what a part has started ends with it
        os.kill(child, 0)
    assert lines == [
        {"part": "fails", "what": "half"},
        {"part": "fails", "status": "failed", "exit_code": 1, "error": ["no such kernel"]},
        {"part": "hangs"},
        {"part": "hangs", "status": "timed out", "exit_code": -15, "error": []},
        {"part": "says", "said": "a library says \N{REPLACEMENT CHARACTER}"},
        {"part": "says", "what": "whole"},
        {"part": "says", "status": "done"},
    ]


def test_what_does_not_run_says_why_and_is_no_failure() -> None:
    good, lines = lines_of(part("peer", SAYS, skipped="no peer is given"))
    assert good
    assert lines == [{"part": "peer", "status": "skipped", "reason": "no peer is given"}]
    good, lines = lines_of(part("late", SAYS), minutes=0.1)
    assert good
    assert lines == [{"part": "late", "status": "skipped", "reason": "6 s of 0.1 minutes are left"}]


def test_the_peer_does_not_see_our_olmo_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), "/site")))
    asked = argparse.Namespace(only=["peer"], small=True, peer_python="", peer_path="/peer")
    (peer,) = parts_of(asked)
    wanted = ("/peer", "/site", str(ROOT / "benchmarks"))
    assert peer.environment["PYTHONPATH"] == os.pathsep.join(wanted)
