"""`olmo jobs` while Slurm's controller is down: one message, and a short row a job."""

import os
from pathlib import Path

import pytest
import yaml

from assets.launcher import JobState
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.cli.jobs import _cells, job_row, print_jobs
from pipelines.places import Place

TASKS = 100
SAID = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def dead_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site of Slurm's whose `squeue` says what the real one says without a controller."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho {SAID!r} >&2\nexit 1\n")
    squeue.chmod(0o755)
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"slurm": {}, "work": {"evals": {"engine": "slurm"}}}))
    monkeypatch.setenv("PATH", f"{squeue.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))  # no other test's queue
    monkeypatch.setenv("OLMO_SITE", str(site))


def queue(root: Path, task: int) -> None:
    """A task of an array, as its submission has recorded it."""
    folder = root / "demo/checkpoint_downstream" / f"stage1@step{task}" / ("0" * 12)
    folder.mkdir(parents=True)
    record = {"schema_version": 1, "engine": "slurm", "job_id": f"7_{task}", "queued_at": 0.0}
    write_json(folder / "launch.json", record)


def test_a_dead_controller_is_said_once_and_rows_stay_short(
    toy_root: Path, dead_controller: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in range(TASKS):
        queue(toy_root, task)
    print_jobs(None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.strip().startswith("demo/checkpoint_downstream")]
    assert len(rows) == TASKS
    assert all("not known now" in row and len(row.rstrip()) < 120 for row in rows)
    assert [line for line in lines if SAID in line] == [
        f"Slurm has not answered yet, waiting for it: squeue: {SAID}"
    ]
    assert len(lines) < TASKS + 5


def test_a_pass_over_the_corpus_has_a_rate_and_a_time_left(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.launch, {"schema_version": 1, "engine": "local"})
    status = {
        "schema_version": 1,
        "state": "running",
        "attempt": 1,
        "done": 40,
        "total": 100,
        "unit": "chunks",
        "ready": 0.0,
        "counted_from": {"done": 30, "time": 1000.0},
        "heartbeat": 1004.0,
    }
    write_json(folder.status, status)
    place = Place(recipe="demo", asset="tagged", partition=None, folder=folder)
    row = job_row(place, JobState(alive=True))
    assert (row["units_per_second"], row["remaining_seconds"]) == (2.5, 24.0)
    assert "2.5 chunks/s" in _cells(row)
    assert "24 s" in _cells(row)
