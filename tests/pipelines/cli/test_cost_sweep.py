"""`olmo cost --sweep`: what evaluations of checkpoints would take; a budget stops them too."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console
from typer.testing import CliRunner

from assets.assemble import build_graph
from assets.evals.sweep import checkpoints
from assets.execution.produce import launch_of
from assets.graph import Graph
from assets.launcher import JobState, Refused
from assets.recipe import load_recipe
from olmo_core.forecast.figures import FIGURES
from pipelines.cli.cost_sweep import print_sweep_cost
from pipelines.cli.launch import launch_asset, sweep_recipe
from pipelines.cli.main import app
from pipelines.cli.show_sweep import print_sweep
from pipelines.launchers.router import Router
from pipelines.sensors import checkpoint_sensor
from pipelines.site.file import Site
from pipelines.sweep import lacking
from tests.pipelines.sweep.steps import Arrays, finish, save

RECIPES = Path(__file__).parents[2] / "recipes"
BOTH = ["checkpoint_downstream", "checkpoint_perplexity"]


@pytest.fixture
def recipes(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    shutil.copytree(RECIPES, folder)
    monkeypatch.setenv("OLMO_RECIPES", str(folder))
    return folder


@pytest.fixture
def evaluable(recipes: Path, toy_root: Path) -> Graph:
    """The recipe `tiny` with two checkpoints, and all else that their evaluation reads."""
    graph = build_graph(load_recipe("tiny"))
    for step in (20, 40):
        save(graph, toy_root, "stage1", step)
        run = graph.folder(toy_root, "stage1") / graph.fingerprints["stage1"].version
        shutil.copy(recipes / "tiny" / "stage1.yaml", run / "config.yaml")
    for name in ("tokenizer", "held_out"):
        folder = graph.folder(toy_root, name) / graph.fingerprints[name].version
        of = {"fingerprint": graph.fingerprints[name].value, "digest": "x", "inputs": {}}
        report = {"numbers": {"scored_bytes": 10_000}, "data": {}}
        took = {"start_seconds": 0.0, "work_seconds": 0.0, "peak_memory_bytes": 0}
        finish(folder, asset=name, **of, **took, report=report)
    return graph


def cost(
    capsys: pytest.CaptureFixture[str],
    *,
    every: int = 1,
    runs: Sequence[str] = (),
    evaluations: Sequence[str] = (),
    device: str | None = None,
) -> dict[str, Any]:
    wanted: dict[str, Any] = {"every": every, "runs": runs, "evaluations": evaluations}
    print_sweep_cost("tiny", **wanted, device=device, devices=None, as_json=True)
    return json.loads(capsys.readouterr().out)


def labels(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["asset"], each["partition"]) for each in found["assets"]]


def test_before_anything_is_trained_it_is_of_what_trainings_will_keep(
    recipes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cost(capsys)
    of_stage1 = [key for name, key in labels(found) if name == BOTH[0] and "stage1" in key]
    config = build_graph(load_recipe("tiny")).recipe.stage1_config()
    assert of_stage1[-1] == f"stage1@step{config.stop_at}"
    assert len({key for _, key in labels(found)}) * 2 == len(found["assets"])
    assert any("stage1: not written yet: stage1@step" in note for note in found["notes"])
    for each in found["assets"]:
        assert {*each["figures"], *each["unknown"]} >= {*FIGURES}, each
        assert all(figure["basis"] for figure in each["figures"].values())
    [first, second, *_] = [
        each["figures"]["seconds"]["value"]
        for each in found["assets"]
        if each["asset"] == BOTH[0] and each["partition"].startswith("stage1@")
    ]
    assert first - second == pytest.approx(9)  # one process: its libraries are loaded once
    seconds = sum(each["figures"]["seconds"]["value"] for each in found["assets"])
    assert found["total"]["seconds"] == {"value": pytest.approx(seconds), "without": []}
    assert found["total"]["elapsed_seconds"] == pytest.approx(seconds)


def test_it_takes_the_options_of_a_sweep(recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = {key for _, key in labels(cost(capsys, runs=["stage1"]))}
    assert steps
    assert all(key.startswith("stage1@") for key in steps)
    some = cost(capsys, runs=["stage1"], every=20, evaluations=["perplexity"])
    assert {name for name, _ in labels(some)} == {"checkpoint_perplexity"}
    assert {int(key.rpartition("step")[2]) % 20 for _, key in labels(some)} == {0}
    gpu = cost(capsys, evaluations=["downstream"], device="H100")
    assert gpu["assets"][0]["figures"]["device_hours"]["basis"] == "1 H100 × the time"


def test_what_is_finished_costs_nothing_and_what_cannot_be_made_is_named(
    evaluable: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks = lacking(evaluable, toy_root, checkpoints(evaluable, toy_root))
    found = cost(capsys, runs=["stage1"])
    there = [(work.node.name, work.partition) for work in lacks.works]
    assert labels(found)[: len(there)] == there
    work = lacks.works[0]
    finish(work.parent / work.fingerprint.version)
    assert (work.node.name, work.partition) not in labels(cost(capsys, runs=["stage1"]))
    folder = evaluable.folder(toy_root, "tokenizer") / evaluable.fingerprints["tokenizer"].version
    (folder / "result.json").unlink()
    notes = cost(capsys, runs=["stage1"])["notes"]
    assert any("left out: checkpoint_downstream stage1@step40: " in note for note in notes)


def test_the_table_has_a_row_per_evaluation_and_training(
    recipes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = print_sweep_cost(
        "tiny", every=1, runs=["stage1"], evaluations=[], device=None, devices=None, as_json=False
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "evaluations" in printed
    assert printed.count("checkpoint_downstream stage1") >= 2  # its row, and what its time rests on
    assert "checkpoint_downstream stage1@" not in printed


def test_below_a_sweeps_scores_stands_what_they_took() -> None:
    row = {"figure": "seconds", "forecast": 5.0, "measured": 4.0}
    known = {"asset": BOTH[0], "state": "current", "metadata": {"copa acc": 0.5}, "run": "a"}
    entries = [
        {**known, "partition": "stage1@step20", "forecast": [row]},
        {**known, "partition": "stage1@step40", "forecast": [row]},
        {**known, "partition": "stage1@step60"},
    ]
    console = Console(file=io.StringIO(), width=200)
    print_sweep(console, entries)
    assert isinstance(console.file, io.StringIO)
    said = "2 evaluations took 8.0 s, forecast 10 s, from start to end each"
    assert said in console.file.getvalue()


def test_a_launch_knows_what_its_evaluation_will_take(
    evaluable: Graph, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = Arrays()
    site = Site()
    launcher = Router(site=site, engines={"local": arrays})
    lacks = lacking(evaluable, toy_root, checkpoints(evaluable, toy_root))
    launcher.submit([launch_of(work, toy_root) for work in lacks.works])
    [given] = arrays.given
    for launch in given:
        assert launch.forecast is not None
        assert launch.forecast["figures"]["seconds"]["value"] > 0
        assert launch.forecast["figures"]["flops"]["value"] > 0


def test_a_budget_stops_a_sweep_before_anything_is_submitted(
    evaluable: Graph, recipes: Path, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipes / "tiny" / "budget.yaml").write_text("device_hours: 1e-6\n")
    with pytest.raises(Refused, match=r"tiny: budget.yaml: device_hours: 1e-06, but this launch"):
        sweep_recipe("tiny", dry_run=False)
    with pytest.raises(Refused, match=r"checkpoint_downstream stage1@step20 "):
        launch_asset("tiny", BOTH[0], "stage1@step20", dry_run=False, force=False)
    assert not [*toy_root.glob("tiny/checkpoint_*/*/*/launch.json")]
    code = print_sweep_cost(
        "tiny", every=1, runs=[], evaluations=[], device=None, devices=None, as_json=False
    )
    assert code == 1
    assert "✗ budget.yaml: device_hours" in capsys.readouterr().out


def test_a_sensor_says_that_the_budget_stops_a_sweep(
    evaluable: Graph, recipes: Path, toy_root: Path
) -> None:
    (recipes / "tiny" / "budget.yaml").write_text("device_hours: 1e-6\n")
    launcher = Router(site=Site(), engines={"local": Arrays()})
    with dg.instance_for_test() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"launcher": launcher})
        with pytest.raises(Refused, match=r"tiny: budget.yaml: device_hours"):
            checkpoint_sensor(evaluable)(context)


def test_evaluations_at_work_have_taken_what_they_were_forecast_to(
    evaluable: Graph, recipes: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipes / "tiny" / "budget.yaml").write_text("device_hours: 10\n")
    folder = toy_root / "tiny" / BOTH[0] / "stage1@step10" / "a"
    folder.mkdir(parents=True)
    forecast = {"figures": {"device_hours": {"value": 10.0, "basis": ""}}}
    (folder / "launch.json").write_text(json.dumps({"schema_version": 1, "forecast": forecast}))
    monkeypatch.setattr(Router, "state", lambda _, run: JobState(alive=run.path == folder))
    with pytest.raises(Refused, match="beside 10 before"):
        sweep_recipe("tiny", dry_run=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", "10"], "--sweep"),
        (["--sweep", "--force"], "makes nothing again"),
        (["--sweep", "--select", "stage1"], "--select stage1: unknown"),
        (["--sweep", "--models", "stage3"], "--models stage3: unknown"),
    ],
)
def test_options_of_the_other_command_are_refused(
    recipes: Path, options: list[str], message: str
) -> None:
    made = CliRunner().invoke(app, ["cost", "tiny", *options])
    assert made.exit_code != 0
    assert message in made.output + str(made.exception)
