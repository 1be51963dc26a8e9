"""Finished runs as they lie on the disk."""

import json
import os
from pathlib import Path

import pytest

from olmo_core.forecast import past
from olmo_core.forecast.past import find_runs
from olmo_core.run.folder import RunFolder
from tests.olmo_core.forecast.conftest import train_config, write_result, write_training

TAGGED = "olmo_core.corpus.filters.tagged"


def test_runs_of_every_recipe_and_root_the_newest_first(root: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    for time, (place, name) in enumerate(
        [(root, "a/tagged/1"), (shared, "b/tagged/2"), (root, "c/tagged/3"), (root, "c/raw/4")]
    ):
        folder = write_result(place, name, module=TAGGED, config={}, numbers={}, work_seconds=1.0)
        os.utime(folder / "result.json", (time, time))
    found = find_runs([root, shared], ["tagged"])
    assert [run.name for run in found] == ["c/tagged/3", "b/tagged/2", "a/tagged/1"]


def test_what_has_not_finished_or_is_of_another_schema_is_left_out(root: Path) -> None:
    for name in ("a/tagged/1", "a/tagged/2", "a/tagged/3"):
        write_result(root, name, module=TAGGED, config={}, numbers={}, work_seconds=1.0)
    torn = root / "a/tagged/1/result.json"
    torn.write_text(torn.read_text()[:-20])
    (root / "a/tagged/2/launch.json").write_text(json.dumps({"schema_version": 99}))
    assert [run.name for run in find_runs([root], ["tagged"])] == ["a/tagged/3"]


def test_time_in_a_queue_is_no_cost(root: Path) -> None:
    folder = write_result(
        root,
        "a/tagged/1",
        module=TAGGED,
        config={},
        numbers={},
        work_seconds=1.0,
        start_seconds=5000.0,
    )
    for file, changes in (("launch.json", {"engine": "slurm"}), ("result.json", {"started": 98.0})):
        content = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")
    [run] = find_runs([root], ["tagged"])
    # submitted at -4901, started at 98: of 5000 seconds 4999 in the queue
    assert run.start_seconds == pytest.approx(1.0)


def test_steps_of_a_resumed_run_are_those_after_its_checkpoint(root: Path) -> None:
    folder = write_training(root, "a/stage1/1", train_config(), step_seconds=0.5)
    rows = [
        {"schema_version": 1, "attempt": 1, "event": "began"},
        {"schema_version": 1, "attempt": 1, "event": "ended", "checkpoint_step": 40},
    ]
    (folder / "attempts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = json.loads((folder / "result.json").read_text()) | {"attempt": 2}
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    [run] = find_runs([root], ["stage1"])
    assert run.last_attempt_steps == 60


def test_of_long_metrics_the_beginning_and_the_end_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_training(root, "a/stage1/1", train_config(), step_seconds=0.5, steps=3000)
    monkeypatch.setattr(past, "READ_BYTES", 4000)
    [run] = find_runs([root], ["stage1"])
    assert len(past._some_rows(run.folder)) < 200
    assert run.step_seconds == pytest.approx(0.5)


def test_the_peak_of_a_gpu_is_the_one_that_it_logged(root: Path) -> None:
    folder = write_training(root, "a/stage1/1", train_config(), step_seconds=0.5, device="cuda")
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    row = json.loads(rows[7]) | {"System/Peak GPU Memory (MB)": 1234.5}
    rows[7] = json.dumps(row)
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    [run] = find_runs([root], ["stage1"])
    assert run.memory_bytes == 1234.5e6
    assert run.kind == "GPU"


def test_a_folder_holds_its_outputs_its_records_and_all_its_checkpoints(root: Path) -> None:
    folder = write_training(root, "a/stage1/1", train_config(), step_seconds=0.5, size=500)
    for step in (40, 80, 100):
        checkpoint = folder / "checkpoints" / f"step{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights").write_bytes(b"x" * 1000)
        (checkpoint / "manifest.json").write_bytes(b"{}")
    (folder / "checkpoints" / "step120.tmp").mkdir()
    records = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    run = RunFolder(folder)
    # the output, 500 bytes, is among the files of the folder
    assert past.folder_bytes(run, run.read_result()) == records + 3 * 1002
