"""What Dagster shows of a job in progress."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.launcher import JobState
from assets.reporting import observe
from assets.reporting.observe import DagsterObserver, observed
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder

TRAINING = {
    "attempt": 3,
    "done": 137,
    "total": 1000,
    "unit": "steps",
    "message": "",
    "step": 137,
    "loss": 3.25,
    "learning_rate": 3e-4,
    "tokens_per_second": 51200.5,
    "remaining_seconds": 8000.0,
    "wandb_url": "https://wandb.example/run",
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    write_json(made.launch, {"schema_version": 1, "log": "log/submission3.log"})
    made.log.mkdir()
    (made.log / "submission3.log").write_text("".join(f"line {number}\n" for number in range(2000)))
    made.attempts.write_text('{"attempt": 2, "event": "ended", "cause": "preempted"}\n{"torn')
    return made


def shown(folder: RunFolder, job: JobState, status: dict[str, Any]) -> dict[str, Any]:
    event = dg.AssetObservation("stage1", metadata=observed(folder, job, status))
    return {name: value.value for name, value in event.metadata.items()}


def test_a_training_shows_step_loss_rates_time_attempt_and_the_logs_end(folder: RunFolder) -> None:
    job = JobState(alive=True, description="running on n1, n2")
    values = shown(folder, job, TRAINING)
    end = values.pop("log_end")
    assert values == {
        "state": "running on n1, n2, attempt 3 after preempted",
        "progress": "137 of 1,000 steps",
        "step": "137",
        "loss": "3.25",
        "learning_rate": "0.0003",
        "tokens_per_second": "51,200",
        "time_remaining": "2 h 13 min",
        "wandb": "https://wandb.example/run",
        "log": str(folder.log / "submission3.log"),
    }
    lines = end.splitlines()
    assert lines[-1] == "    line 1999"
    assert lines[0].startswith("    line 1")  # a whole one
    assert len(end) < 8192


def test_a_pass_over_the_corpus_shows_its_rate_and_the_time_left(folder: RunFolder) -> None:
    status = {
        "attempt": 1,
        "done": 40,
        "total": 100,
        "unit": "chunks",
        "message": "",
        "ready": 0.0,
        "counted_from": {"done": 30, "time": 1000.0},
        "heartbeat": 1004.0,
    }
    values = shown(folder, JobState(alive=True), status)
    assert (values["rate"], values["time_remaining"]) == ("2.5 chunks/s", "24 s")


def test_a_job_in_a_queue_shows_what_it_waits_for_and_nothing_of_before(folder: RunFolder) -> None:
    job = JobState(alive=True, queued=True, description="pending: Resources")
    values = shown(folder, job, TRAINING)
    assert values["state"] == "waiting (pending: Resources)"
    assert set(values) == {"state", "log", "log_end"}


def test_numbers_are_as_long_as_a_person_reads_them(folder: RunFolder) -> None:
    status = {**TRAINING, "loss": 4.605170249938965, "step": 12_345_678}
    values = shown(folder, JobState(alive=True, description="job 7 running on n[1-2]"), status)
    assert (values["loss"], values["step"]) == ("4.60517", "12,345,678")
    assert values["state"] == "job 7 running on n[1-2], attempt 3 after preempted"


def test_offline_curves_are_shown_with_the_command_that_sends_them(folder: RunFolder) -> None:
    status = {**TRAINING, "wandb_url": None}
    job = JobState(alive=True)
    assert "wandb" not in shown(folder, job, status)  # W&B is off
    (folder.path / "wandb" / "offline-run-1").mkdir(parents=True)
    said = shown(folder, job, status)["wandb"]
    assert said == f"offline; to send it: wandb sync {folder.path}/wandb/offline-run-*"


class Context:
    """Keeps what an asset's context would store."""

    asset_key = dg.AssetKey(["toy", "stage1"])
    has_partition_key = False

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def log_event(self, event: dg.AssetObservation) -> None:
        self.seen.append({name: value.value for name, value in event.metadata.items()})


def test_a_job_that_has_waited_is_shown_again_with_its_first_figures(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "FIRST_AFTER_SECONDS", 0.0)
    context: Any = Context()
    observer = DagsterObserver(context)
    observer.folder = folder
    observer.state("stage1", JobState(alive=True, queued=True, description="job 7 pending"))
    observer.state("stage1", JobState(alive=True, description="job 7 running on n1"))
    starting = {**TRAINING, "done": 0, "tokens_per_second": None}
    for status in (starting, {**starting, "done": 1}, TRAINING, TRAINING):
        observer.progress("stage1", status)
    states = [entry["state"] for entry in context.seen]
    assert [state.partition(",")[0] for state in states] == [
        "waiting (job 7 pending)",
        "job 7 running on n1",
        "job 7 running on n1",
    ]
    assert context.seen[-1]["tokens_per_second"] == "51,200"


def test_a_job_without_a_log_yet_is_no_error(folder: RunFolder) -> None:
    (folder.log / "submission3.log").unlink()
    assert set(shown(folder, JobState(alive=True), {})) == {"state", "log"}
