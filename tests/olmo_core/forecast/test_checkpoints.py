"""Evaluations of checkpoints: as those of exported models, alone; some find their scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.model import count_parameters
from olmo_core.forecast.checkpoints import scored_as_model
from olmo_core.forecast.figures import Forecast, Place
from olmo_core.forecast.job import forecast_job
from olmo_core.forecast.loads import DOWNSTREAM, Work
from olmo_core.forecast.past import find_runs
from tests.olmo_core.forecast.conftest import train_config, write_result, write_training

TASKS: dict[str, Any] = {"tasks": [{"name": "olmo1_copa", "limit": 10}]}
PARAMETERS = count_parameters(train_config().model).total
STAGE1 = "demo/stage1/a"
CHECKPOINT = "olmo_core.evals.checkpoint"


@pytest.fixture
def trained(root: Path) -> Path:
    """A run of 100 steps with its last checkpoint and one before, exported and evaluated.

    Of 5 models each takes a fifth of 20 s of work and of 500 bytes, records beside them.
    """
    folder = write_training(root, STAGE1, train_config(), step_seconds=0.5)
    for step in (40, 100):
        (folder / f"checkpoints/step{step}").mkdir(parents=True)
    write_result(
        root,
        "demo/export/a",
        module="olmo_core.release.export",
        config={},
        numbers={"models": 5, "parameters": PARAMETERS},
        work_seconds=1.0,
        inputs={STAGE1: ""},
    )
    write_result(
        root,
        "demo/downstream/a",
        module=DOWNSTREAM,
        config=TASKS,
        numbers={"scores_from_cache": 0},
        work_seconds=20.0,
        start_seconds=0.5,
        size=500,
        inputs={"demo/export/a": ""},
    )
    return folder / "checkpoints"


def evaluate(root: Path, *, from_cache: bool = False, first: bool = True) -> Forecast:
    work = Work(
        asset="checkpoint_downstream",
        module=DOWNSTREAM,
        config=TASKS,
        inputs={"checkpoint": {"parameters": PARAMETERS}},
        from_cache=from_cache,
        first_in_process=first,
    )
    return forecast_job(work, Place(cores=2), [root])


def write_evaluation(
    root: Path, name: str, seconds: float, *, cached: int = 0, process: tuple[int, float] = (0, 0)
) -> None:
    """Write the evaluation of a checkpoint, by a process of its own or one with this id."""
    pid, finished = process
    folder = write_result(
        root,
        f"demo/checkpoint_downstream/{name}",
        module=CHECKPOINT,
        config=TASKS,
        numbers={"scores_from_cache": cached},
        work_seconds=seconds,
        start_seconds=0.5,
        finished=finished or 100.0,
        inputs={f"{STAGE1}/checkpoints/step40": "checkpoint"},
    )
    if pid:
        status = {"schema_version": 1, "host": "here", "pid": pid, "start_ticks": 7}
        (folder / "status.json").write_text(json.dumps(status))


def test_the_first_goes_by_the_evaluation_of_models(root: Path, trained: Path) -> None:
    made = evaluate(root)
    assert made.value("seconds") == pytest.approx(0.5 + 20 / 5 + 10)
    [models] = find_runs([root], ["downstream"])
    records = models.disk_bytes - 500
    assert made.value("disk_bytes") == pytest.approx(records + 500 / 5)
    basis = made.figures["seconds"].basis
    assert basis.endswith(", × 0.2, and 10 s to load libraries, assumed (demo/downstream/a)")
    assert evaluate(root, first=False).value("seconds") == pytest.approx(0.5 + 20 / 5)
    assert ", × 0.2 for the number of models (" in made.figures["disk_bytes"].basis
    assert made.value("tokens") == 10 * 1000
    assert made.value("flops") == 2 * PARAMETERS * 10 * 1000


def test_later_ones_go_by_evaluations_of_checkpoints(root: Path, trained: Path) -> None:
    write_evaluation(root, "stage1@step40/a", 7.0)
    write_evaluation(root, "stage1@step80/a", 9.0)
    write_evaluation(root, "stage1@step100/a", 0.1, cached=1)
    made = evaluate(root).figures["seconds"]
    assert made.value == pytest.approx(0.5 + 8.0)
    assert made.basis.startswith("measured: 8.5 s (7.5 to 9.5 s in 2 runs) for ")
    assert "demo/checkpoint_downstream/stage1@step" in made.basis


def test_of_those_that_take_turns_only_the_first_loads_libraries(root: Path, trained: Path) -> None:
    """They took 16.5, 4.5 and 6.5 s: a first one is as the first, others as the others."""
    for number, seconds in ((1, 16.0), (2, 4.0), (3, 6.0)):
        name = f"stage1@step{number}/a"
        write_evaluation(root, name, seconds, process=(50, 100.0 + 20 * number))
    later = evaluate(root, first=False).figures["seconds"]
    assert later.value == pytest.approx(0.5 + 5.0)
    assert "5.5 s (4.5 to 6.5 s in 2 runs)" in later.basis
    assert evaluate(root, first=True).value("seconds") == pytest.approx(0.5 + 16.0)


def test_one_that_finds_its_scores_goes_by_others_that_did(root: Path, trained: Path) -> None:
    assumed = evaluate(root, from_cache=True)
    assert "the scores are in the cache" in assumed.figures["seconds"].basis
    write_evaluation(root, "stage1@step40/a", 7.0)
    write_evaluation(root, "stage1@step100/a", 0.1, cached=1)
    made = evaluate(root, from_cache=True)
    assert made.value("seconds") == pytest.approx(0.6)
    assert (made.value("tokens"), made.value("flops")) == (0, 0)


def test_the_last_checkpoint_of_an_exported_run_has_been_scored(root: Path, trained: Path) -> None:
    def scored(step: int, config: dict[str, Any] = TASKS) -> bool:
        return scored_as_model(trained / f"step{step}", "checkpoint_downstream", config, [root])

    assert scored(100)
    assert not scored(40)
    assert not scored(100, {"tasks": [{"name": "olmo1_piqa", "limit": 10}]})
    (root / "demo/downstream/a/result.json").unlink()
    assert not scored(100)


def test_a_checkpoint_whose_run_cannot_be_read_has_no_load(root: Path, trained: Path) -> None:
    write_evaluation(root, "stage1@step40/a", 7.0)
    [run] = find_runs([root], ["checkpoint_downstream"])
    assert run.inputs["checkpoint"] == {"parameters": PARAMETERS}
    other = write_result(
        root, "demo/stage1/b", module="olmo_core.train", config={}, numbers={}, work_seconds=1.0
    )
    (other / "config.yaml").write_text("key_of_tomorrow: 1\n")
    result = root / "demo/checkpoint_downstream/stage1@step40/a/result.json"
    content = json.loads(result.read_text())
    content["inputs"]["checkpoint"]["path"] = "demo/stage1/b/checkpoints/step40"
    result.write_text(json.dumps(content, indent=1) + "\n")
    [run] = find_runs([root], ["checkpoint_downstream"])
    assert run.inputs == {}
    assert "demo/downstream/a" in evaluate(root).figures["seconds"].basis
