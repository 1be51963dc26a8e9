"""Scores of checkpoints in the W&B run of their training: over tokens, once, failing nothing."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.placement import WandbConfig
from olmo_core.evals.rows import write_rows
from olmo_core.files import write_json
from olmo_core.monitor import scores, tracking
from olmo_core.monitor.outbox import Outbox, Scores
from olmo_core.monitor.tracking import Tracker
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from tests.olmo_core.evals.store.evaluations import checkpoint, figure
from tests.olmo_core.monitor.wandb_files import axes, history, ids
from tests.olmo_core.monitor.wandb_server import serving

VALUES = {"global_train_batch_size": 10, "model": {"max_sequence_length": 100}}
COPA = "eval/downstream/copa_acc"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a training whose steps have 1000 tokens, tracked offline."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("OLMO_ROOT", raising=False)
    run = tmp_path / "demo" / "stage1" / "aaaaaaaaaaaa"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(json.dumps({**VALUES, "wandb": {"project": "p"}}))
    return run


def begun(run: Path) -> Tracker:
    return Tracker(WandbConfig(project="p"), run, VALUES)


def stepped(tracker: Tracker, *steps: int) -> None:
    for step in steps:
        tracker.log({"train/CrossEntropyLoss": 3.0, tracking.TOKENS: 1000 * step}, step)


def end(run: Path, step: int) -> None:
    """Let the training have finished."""
    write_json(run / "result.json", {"schema_version": 1, "report": {"data": {"step": step}}})


def evaluate(run: Path, step: int, value: float, version: str = "eeeeeeeeeeee") -> None:
    """Score a checkpoint of the training, as a job does."""
    name = f"stage1@step{step}"
    folder = run.parents[1] / "checkpoint_downstream" / name / version
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"recipe": "demo", "asset": "checkpoint_downstream", "partition": name}
    write_json(folder / "launch.json", {"schema_version": 1, **identity})
    place = str(run / f"checkpoints/step{step}")
    write_json(folder / "config.yaml", {**identity, "inputs": {"checkpoint": place}, "config": {}})
    found = [figure("copa", value), figure("held_out/c4", 1.0)]
    with Job.open(folder) as job:
        write_rows(folder / "rows.parquet", [checkpoint(step).row(**each) for each in found])
        job.finish(Report())


def scored(run: Path) -> list[tuple[int, int, float]]:
    """W&B's step, tokens and score of each row that has one."""
    key = "scores/copa/acc"
    return [(row["_step"], row["tokens"], row[key]) for row in history(run) if key in row]


def test_scores_and_in_loop_figures_stand_in_the_run_of_the_training_over_tokens(
    run: Path,
) -> None:
    tracker = begun(run)
    stepped(tracker, 1, 2)
    tracker.log({COPA: 0.25}, 2, always=True)
    stepped(tracker, 3)
    tracker.finish()
    end(run, 3)
    evaluate(run, 3, 0.75)
    evaluate(run, 1, 0.5)  # an earlier checkpoint, scored later
    assert scored(run) == [(4, 3000, 0.75), (5, 1000, 0.5)]
    in_loop = [row for row in history(run) if COPA in row]
    assert [(row["_step"], row["tokens"], row[COPA]) for row in in_loop] == [(2, 2000, 0.25)]
    assert in_loop[0]["train/CrossEntropyLoss"] == 3.0  # in the row of its step
    assert axes(run) == {"eval/*": "tokens", "scores/*": "tokens"}
    assert ids(run) == {(run / "wandb/run_id").read_text()}
    assert not any("held_out" in name for row in history(run) for name in row)


def test_online_the_training_s_run_is_resumed_and_nothing_is_dropped(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    (run / "config.yaml").write_text(json.dumps({**VALUES, "wandb": {"project": "p"}}))
    (run / "wandb").mkdir()
    (run / "wandb/run_id").write_text("cafe1234")  # it was tracked online
    end(run, 3)
    with serving(last_step=3) as (address, rows):
        for name, value in {
            "WANDB_MODE": "online",
            "WANDB_API_KEY": "k" * 40,
            "WANDB_BASE_URL": address,
        }.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # it read the environment once
        for step, value in ((3, 0.75), (1, 0.5)):
            evaluate(run, step, value)
        wandb.teardown()
    [(name, found)] = rows.items()
    assert name == "cafe1234"
    told = [(row["_step"], row["tokens"], row["scores/copa/acc"]) for row in found]
    assert told == [(4, 3000, 0.75), (5, 1000, 0.5)]


def test_an_evaluation_is_reported_once(run: Path) -> None:
    begun(run).finish()
    end(run, 3)
    for _ in range(2):
        evaluate(run, 1, 0.5)
        assert scores.send(RunFolder(run), WandbConfig()) == 0
    assert len(scored(run)) == 1
    evaluate(run, 1, 0.5, version="eeeeeeeeeeee.2")  # another evaluation
    assert len(scored(run)) == 2


def test_a_training_at_work_sends_them_with_its_steps_and_loses_none_of_these(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LOOK_SECONDS", 0)
    tracker = begun(run)
    stepped(tracker, 1, 2)
    evaluate(run, 1, 0.5)
    evaluate(run, 2, 0.75)
    assert len(Outbox(run).waiting()) == 2  # one writer at a time
    tracker.log({COPA: 0.25}, 2, always=True)  # at 2000 tokens, in W&B's step 2
    stepped(tracker, 3, 4, 5, 6)
    tracker.finish()
    assert scored(run) == [(3, 1000, 0.5), (4, 2000, 0.75)]
    rows = history(run)
    assert [row["_step"] for row in rows if tracking.TOKENS in row] == [1, 2, 3, 4, 5, 6]
    assert [row["tokens"] for row in rows if COPA in row] == [2000]
    end(run, 6)
    evaluate(run, 6, 0.8)
    assert scored(run)[2:] == [(9, 6000, 0.8)]


def test_a_resumed_training_sends_none_with_a_step_that_it_repeats(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LOOK_SECONDS", 0)
    rows = [{"step": step, tracking.TOKENS: 1000 * step} for step in (1, 2, 3, 4)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    begun(run).finish()
    evaluate(run, 1, 0.5)
    tracker = begun(run)  # killed after step 4, it goes on from the checkpoint of step 2
    stepped(tracker, 3, 4, 5)
    assert Outbox(run).waiting() != []
    stepped(tracker, 6)
    tracker.finish()
    assert scored(run) == [(5, 1000, 0.5)]


def test_what_waited_when_the_training_ended_is_sent_as_it_ends(run: Path) -> None:
    tracker = begun(run)
    stepped(tracker, 1)
    evaluate(run, 1, 0.5)
    tracker.finish()
    with Job.open(run, resumable=True) as job:
        job.finish(Report(data={"step": 1}))
    assert scored(run) == [(2, 1000, 0.5)]


def test_a_failure_fails_no_evaluation_says_so_and_is_made_up_for(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun(run).finish()
    end(run, 3)

    def refuse(*given: Any, **named: Any) -> Any:
        raise OSError("no route to host")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(scores, "begin", refuse)
        evaluate(run, 1, 0.5)
    assert "no route to host" in caplog.text
    assert "python -m olmo_core.monitor.scores" in caplog.text
    evaluate(run, 2, 0.75)
    assert [value for _, _, value in scored(run)] == [0.5, 0.75]


def test_what_may_have_arrived_is_named_and_not_sent_again(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun(run).finish()
    end(run, 3)

    class Broken:
        offline = True

        def log(self, row: object, step: int) -> None:
            raise OSError("broken pipe")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(scores, "begin", lambda *given, **named: Broken())
        evaluate(run, 1, 0.5)
    name = "demo--checkpoint_downstream--stage1@step1--eeeeeeeeeeee"
    assert f"may not have arrived, and is not sent again by itself: {name}" in caplog.text
    evaluate(run, 2, 0.75)
    assert [value for _, _, value in scored(run)] == [0.75]
    sent = Outbox(run).sent / f"{name}.json"
    sent.rename(Outbox(run).folder / sent.name)  # as the message says
    assert scores.send(RunFolder(run), WandbConfig()) == 1
    assert [value for _, _, value in scored(run)] == [0.75, 0.5]


@pytest.mark.parametrize("off", ["no section", "never tracked", "disabled"])
def test_a_training_that_is_not_tracked_is_left_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    if off != "never tracked":
        begun(run).finish()
    if off == "no section":
        (run / "config.yaml").write_text(json.dumps(VALUES))
    if off == "disabled":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    end(run, 3)
    evaluate(run, 1, 0.5)
    assert not Outbox(run).folder.exists()


def test_scores_stay_offline_as_long_as_the_training_s_curves_do(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(run).finish()
    end(run, 3)
    asked: list[bool] = []

    def begin(*given: Any, offline: bool, **named: Any) -> Any:
        asked.append(offline)
        raise OSError("enough")

    monkeypatch.setattr(scores, "begin", begin)
    evaluate(run, 1, 0.5)
    [file] = run.glob("wandb/offline-run-*/*.wandb")
    file.with_name(f"{file.name}.synced").touch()  # as `wandb sync` leaves it
    evaluate(run, 2, 0.5)
    assert asked == [True, False]


def test_of_two_that_take_the_same_scores_one_gets_them(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.put("a", Scores(tokens=5, figures={"copa/acc": 0.5}))
    assert outbox.waiting() == ["a"]
    taken = outbox.take("a")
    assert taken is not None
    assert taken.row() == {"tokens": 5, "scores/copa/acc": 0.5}
    assert outbox.take("a") is None
    assert not outbox.put("a", Scores(tokens=5, figures={}))
    assert (outbox.waiting(), outbox.taken()) == ([], 1)


def test_an_attempt_that_begins_with_an_evaluation_knows_its_tokens(run: Path) -> None:
    row = {"step": 2, tracking.TOKENS: 2000, "attempt": 1}
    (run / "metrics.jsonl").write_text(f"{json.dumps(row)}\n")
    tracker = begun(run)
    tracker.log({COPA: 0.25}, 5, always=True)
    tracker.finish()
    assert [row["tokens"] for row in history(run)] == [5000]
