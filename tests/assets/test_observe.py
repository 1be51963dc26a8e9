"""What Dagster shows of a job in progress."""

from pathlib import Path
from typing import Any

import pytest

from assets.launcher import JobState
from assets.observe import duration, observed
from olmo_core.run.files import write_json
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
    write_json(made.launch, {"schema_version": 1, "log": "log/attempt3.log"})
    made.log.mkdir()
    (made.log / "attempt3.log").write_text("".join(f"line {number}\n" for number in range(2000)))
    made.attempts.write_text('{"attempt": 2, "event": "ended", "cause": "preempted"}\n{"torn')
    return made


def shown(folder: RunFolder, job: JobState, status: dict[str, Any]) -> dict[str, Any]:
    return {name: value.value for name, value in observed(folder, job, status).items()}


def test_a_training_shows_step_loss_rates_time_attempt_and_the_logs_end(folder: RunFolder) -> None:
    job = JobState(alive=True, description="running on n1, n2")
    values = shown(folder, job, TRAINING)
    end = values.pop("log_end")
    assert values == {
        "state": "running on n1, n2, attempt 3 after preempted",
        "progress": "137 of 1000 steps",
        "step": 137.0,
        "loss": 3.25,
        "learning_rate": 3e-4,
        "tokens_per_second": 51200.5,
        "time_remaining": "2 h 13 min",
        "wandb": "https://wandb.example/run",
        "log": str(folder.log / "attempt3.log"),
    }
    lines = end.splitlines()
    assert lines[-1] == "    line 1999"
    assert lines[0].startswith("    line 1")  # a whole one
    assert len(end) < 8192


def test_a_job_in_a_queue_shows_what_it_waits_for_and_nothing_of_before(folder: RunFolder) -> None:
    job = JobState(alive=True, queued=True, description="pending: Resources")
    values = shown(folder, job, TRAINING)
    assert values["state"] == "waiting (pending: Resources)"
    assert set(values) == {"state", "log", "log_end"}


def test_a_job_without_a_log_yet_is_no_error(folder: RunFolder) -> None:
    (folder.log / "attempt3.log").unlink()
    assert "No such file" in shown(folder, JobState(alive=True), {})["log_end"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (720, "12 min"), (11100, "3 h 05 min"), (187200, "2 d 4 h")],
)
def test_durations_are_said_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text
