"""`olmo replay` and `olmo accept --replay`, on trainings of the recipe `tiny`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.execution.replay_check import NAME
from olmo_core.lineage.replay import LOSS
from olmo_core.run.code import PACKAGE_ROOT
from pipelines.definitions import build_definitions
from tests.integration.conftest import World

pytestmark = pytest.mark.slow

TRAININGS = ["stage1", "stage2_ingredient1", "stage2_ingredient2"]
TWO_RANKS = "work:\n  train:\n    processes_per_node: 2\n"


@pytest.fixture
def own(tiny: World, tmp_path: Path) -> World:
    """The finished recipe, in a root that a test may add runs to."""
    kept = shutil.ignore_patterns("dagster")
    return World(root=shutil.copytree(tiny.root, tmp_path / "root", ignore=kept))


def replayed(world: World, *arguments: str, **more: str) -> dict[str, Any]:
    """What `olmo replay tiny … --json` says."""
    done = world.olmo("replay", "tiny", *arguments, "--json", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_steps_on_two_ranks_are_equal_on_two_and_close_on_one(own: World, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(TWO_RANKS)
    two = {"OLMO_SITE": str(tmp_path / "site.yaml")}
    done = own.olmo("run", "tiny", "--select", "stage1", "--force", **two)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = (own.root / "tiny" / "stage1").glob("*.2")
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}

    same = replayed(own, "22", "--steps", "3", **two)
    assert (same["start"], same["end"], same["steps"]) == (20, 24, 4)
    assert (same["bitwise"], same["elsewhere"]) == (True, [])
    to_the_end = replayed(own, "39", **two)
    assert (to_the_end["start"], to_the_end["end"]) == (20, 40)
    assert (to_the_end["checkpoints"], to_the_end["model"]) == ([40], True)
    assert to_the_end["bitwise"]

    one = replayed(own, "39")
    assert one["elsewhere"][0] == "ranks per node 2 → 1"
    assert one["steps"] == 20
    assert one["within_tolerance"]
    assert one["checkpoints"] == [], "other ranks wrote other files"
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    kept = [path for path in (own.root / ".replays").rglob("*") if path.name == "checkpoints"]
    assert kept == [], "a replay's checkpoints are as large as the run's"


def test_steps_that_there_are_not_are_named(own: World) -> None:
    done = own.olmo("replay", "tiny", "41")
    assert done.returncode == 2, "1 is for steps that differ"
    assert "step 41: the run" in done.stderr
    assert "has steps 1 to 40" in done.stderr
    done = own.olmo("replay", "tiny", "1", "--stage", "soup")
    assert done.returncode == 2
    assert "soup: no training of the recipe tiny" in done.stderr


def test_an_edit_is_accepted_if_the_bits_are_equal_and_else_refused(
    own: World, tmp_path: Path
) -> None:
    checkout, dolma = tmp_path / "checkout", str(PACKAGE_ROOT / ".venv-dolma/bin/python")
    for name in ("olmo_core", "assets", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE_ROOT / name, checkout / name, ignore=ignored)
    shutil.copy(PACKAGE_ROOT / "dagster.yaml", checkout)

    def olmo(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pipelines.cli.main", *arguments],
            cwd=checkout,
            env={**own.environment, "PYTHONPATH": str(checkout), "OLMO_DOLMA_PYTHON": dolma},
            capture_output=True,
            text=True,
            check=False,
        )

    adamw = checkout / "olmo_core" / "optim" / "adamw.py"
    text = adamw.read_text()
    line = "self.learning_rate, self.betas, self.eps = learning_rate, betas, eps"
    assert line in text
    accept = ("accept", "tiny", "stage2_ingredient1", "--replay")

    adamw.write_text(text.replace(line, f"{line} * 1.001"))
    harmful = olmo(accept)
    assert harmful.returncode == 1, harmful.stdout + harmful.stderr
    assert "stage2_ingredient1: not accepted: steps 1 to " in harmful.stderr
    assert "different: step " in harmful.stderr
    assert not (own.root / ".accepted").exists()

    adamw.write_text(text.replace(line, f"{line} * 1.0"))
    harmless = olmo(accept)
    assert harmless.returncode == 0, harmless.stdout + harmless.stderr
    [acceptance] = (json.loads(p.read_text()) for p in (own.root / ".accepted").glob("*.json"))
    assert acceptance["asset"] == "stage2_ingredient1"
    assert len(acceptance["proof"]) == 2, "its first steps, and its model written anew"
    assert all(line.endswith("every bit is equal") for line in acceptance["proof"])
    planned = olmo(("plan", "tiny")).stdout
    assert "proven by replay" in planned

    refused = olmo((*accept, "--config", "optimizer.eps"))
    assert refused.returncode == 2
    assert "a replay repeats the run by its own values" in refused.stderr
    assert os.listdir(own.root / ".accepted") == [f"{acceptance['new']['fingerprint'][:12]}.json"]


def test_the_check_in_dagster_replays_where_it_is_asked_for_by_itself(
    own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OLMO_ROOT", "OLMO_RECIPES"):
        monkeypatch.setenv(name, own.environment[name])
    definitions = build_definitions(["tiny"])

    def executed(job: str, **options: Any) -> dict[str, dg.AssetCheckEvaluation]:
        """What checks named `replayed` a run has reported, by asset; no asset is made by it."""
        found = definitions.resolve_job_def(job).execute_in_process(instance=instance, **options)
        assert found.success
        checks = [each for each in found.get_asset_check_evaluations() if each.check_name == NAME]
        return {each.asset_key.path[-1]: each for each in checks}

    made = own.path("stage1")
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    with dg.DagsterInstance.ephemeral() as instance:
        assert executed("tiny") == {}, "a run that makes the assets replays nothing"
        assert executed("__ASSET_JOB", asset_selection=[dg.AssetKey(["tiny", "stage1"])]) == {}
        assert not (own.root / ".replays").exists()

        steps = {"ops": {"tiny__stage1_replayed": {"config": {"steps": 3}}}}
        found = executed("tiny_replay", run_config=steps)
        assert sorted(found) == TRAININGS
        assert all(each.passed for each in found.values()), found
        said = {key: value.value for key, value in found["stage1"].metadata.items()}
        assert (said["from_checkpoint"], said["last_step"], said["steps_with_figures"]) == (
            20,
            23,
            3,
        )
        assert (said["bitwise"], said["differences"]) == (True, 0)
        assert str(said["run"]) == str(made)
        assert "every bit is equal" in str(found["stage1"].description)
        assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before

        again = executed("__ASSET_JOB", asset_selection=[dg.AssetKey(["tiny", "stage1"])])
        assert again["stage1"].metadata["replayed_at"].value == said["replayed_at"]

        metrics = made / "metrics.jsonl"
        metrics.write_text(changed(metrics.read_text(), step=22, loss=9.0))
        worse = executed("tiny_replay", run_config=steps)["stage1"]
    assert not worse.passed
    assert worse.severity == dg.AssetCheckSeverity.WARN
    assert not worse.blocking
    first = str(worse.metadata["first_difference"].value)
    assert first.startswith("step 22: train/CrossEntropyLoss 9.0 → ")


def changed(lines: str, *, step: int, loss: float) -> str:
    """Rows of metrics.jsonl, with another loss of one step."""
    rows = [json.loads(line) for line in lines.splitlines()]
    for row in rows:
        if row.get("step") == step and LOSS in row:
            row[LOSS] = loss
    return "".join(f"{json.dumps(row)}\n" for row in rows)
