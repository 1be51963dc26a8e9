"""`olmo sweep` where the engine has no queue: evaluations take turns in one process."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assets.graph import Graph
from olmo_core.errors import ConfigError
from pipelines.cli.launch import sweep_recipe
from tests.pipelines.evaluations import MODULE, checkpoint, save_checkpoints, sweep_graph

KEYS = ["stage1@step1", "stage1@step2", "stage1@step3"]


@pytest.fixture
def toy(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """A recipe with three checkpoints, and toy jobs to evaluate them."""
    monkeypatch.setattr("assets.evals.sweep.MODULE", MODULE)
    made = sweep_graph("toy")
    monkeypatch.setattr("pipelines.cli.launch.load_recipe", lambda name: name)
    monkeypatch.setattr("pipelines.cli.launch.build_graph", lambda recipe: made)
    save_checkpoints(made, toy_root, KEYS)
    return made


def results(root: Path) -> list[dict[str, Any]]:
    found = root.glob("toy/checkpoint_*/*/*/result.json")
    return [json.loads(path.read_text()) for path in sorted(found)]


def test_they_are_made_one_after_another_and_a_failure_stops_none_of_the_others(
    toy: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = checkpoint(toy, toy_root, KEYS[1]) / "value"
    value.unlink()
    assert sweep_recipe("toy", dry_run=True) == 0
    assert "would be made here, one after another: 6" in capsys.readouterr().out
    assert not list(toy_root.glob("toy/checkpoint_*"))
    assert sweep_recipe("toy", dry_run=False) == 1
    shown = capsys.readouterr()
    assert "[1/6] checkpoint_downstream stage1@step1: " in shown.out
    assert " s left\n" in shown.out
    assert "[6/6] checkpoint_perplexity stage1@step3: " in shown.out
    assert "olmo: [3/6] checkpoint_downstream stage1@step2: " in shown.err
    assert str(value) in shown.err
    named = "checkpoint_downstream stage1@step2, checkpoint_perplexity stage1@step2"
    assert f"olmo: without a result: 2: {named}\n" in shown.err
    statuses = [json.loads(path.read_text()) for path in toy_root.glob("toy/*/*/*/status.json")]
    assert len({status["pid"] for status in statuses}) == 1
    value.write_text("2")
    assert sweep_recipe("toy", dry_run=False) == 0
    assert "4 evaluations finished before" in capsys.readouterr().out
    starts = [path.read_text() for path in toy_root.glob("toy/checkpoint_*/*/starts")]
    assert sorted(starts) == ["x"] * 4 + ["xx"] * 2
    times = sorted((result["started"], result["finished"]) for result in results(toy_root))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))


def test_a_checkpoint_that_appears_meanwhile_is_taken_up(
    toy: Graph, toy_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    late = checkpoint(toy, toy_root, KEYS[2])
    away = late.with_name("away")
    late.rename(away)
    ended: list[str] = []

    def scores(result: dict[str, Any]) -> str:
        ended.append(result["partition"])
        if len(ended) == 3:
            away.rename(late)
        return ""

    monkeypatch.setattr("pipelines.cli.sweep_here._scores", scores)
    assert sweep_recipe("toy", dry_run=False) == 0
    assert ended == [key for key in KEYS for _ in range(2)]
    assert "[6/6] checkpoint_perplexity stage1@step3" in capsys.readouterr().out


def test_every_so_many_steps(toy: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep_recipe("toy", every=2, dry_run=True) == 0
    shown = capsys.readouterr().out
    assert "toy: 1 checkpoints, 0 evaluations finished before" in shown
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("  ")] == [
        KEYS[1],
        KEYS[1],
    ]


def test_of_some_runs_by_some_evaluations(toy: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    def asked(runs: Sequence[str] = (), evaluations: Sequence[str] = ()) -> list[str]:
        assert sweep_recipe("toy", runs=runs, evaluations=evaluations, dry_run=True) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]

    assert len(asked()) == len(asked(runs=["stage1"])) == 6
    assert asked(evaluations=["perplexity"]) == [f"  checkpoint_perplexity {key}" for key in KEYS]
    with pytest.raises(ConfigError, match="--models stage_1: unknown; did you mean 'stage1'"):
        sweep_recipe("toy", runs=["stage_1"], dry_run=True)
    with pytest.raises(ConfigError, match="--select blimp: unknown; expected one of downstream, "):
        sweep_recipe("toy", evaluations=["blimp"], dry_run=True)


SWEEP = """
import assets.evals.sweep
import pipelines.cli.launch as launch
from tests.pipelines.evaluations import MODULE, sweep_graph
assets.evals.sweep.MODULE = MODULE
launch.load_recipe = lambda name: name
launch.build_graph = lambda recipe: sweep_graph("toy")
raise SystemExit(launch.sweep_recipe("toy", dry_run=False))
"""


@pytest.mark.parametrize("moments", [2, pytest.param(10, marks=pytest.mark.drill)])
def test_killed_at_any_moment_the_same_command_makes_what_is_missing(
    toy: Graph, toy_root: Path, tmp_path: Path, moments: int
) -> None:
    chance = random.Random(moments)
    for moment in range(moments):
        sweep = subprocess.Popen(
            [sys.executable, "-c", SWEEP], stdout=subprocess.PIPE, start_new_session=True
        )
        assert sweep.stdout is not None
        lines = 2 + chance.randrange(5)  # the head, then one per evaluation
        read = [sweep.stdout.readline() for _ in range(lines)]
        time.sleep(chance.random() * 0.05)
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
        for path in toy_root.glob("toy/checkpoint_*/*/*/launch.json"):
            if (pid := json.loads(path.read_text()).get("pid")) is not None:
                os.kill(pid, signal.SIGKILL)
        before = {result["finished"] for result in results(toy_root)}
        assert len(before) <= 6, read
        assert sweep_recipe("toy", dry_run=False) == 0
        after = results(toy_root)
        assert before <= {result["finished"] for result in after}  # what was finished stays
        assert [result["report"]["numbers"]["value"] for result in after] == [11, 12, 13] * 2
        (toy_root / "toy").rename(tmp_path / str(moment))  # all again
        (toy_root / ".assigned").rename(tmp_path / f"assigned{moment}")
        save_checkpoints(toy, toy_root, KEYS)
