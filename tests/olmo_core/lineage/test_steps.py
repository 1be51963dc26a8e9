"""What the files of a run say of a step, whatever else stands in them."""

import json
from pathlib import Path

from olmo_core.lineage.steps import StepLog
from olmo_core.run.folder import RunFolder


def row(step: int, attempt: int, masked: float = 0.0, **more: float) -> str:
    return json.dumps({"step": step, "train/masked_instances": masked, "attempt": attempt, **more})


def log(folder: Path, *lines: str, skips: bool = True) -> StepLog:
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    began = [
        {"schema_version": 1, "attempt": number, "event": "began", "place": {"devices": devices}}
        for number, devices in ((1, 8), (2, 4))
    ]
    (folder / "attempts.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in began))
    return StepLog(RunFolder(folder), skips=skips)


def test_the_last_row_of_a_step_counts(tmp_path: Path) -> None:
    skipped = {"optim/step_skipped": 1.0}
    made = {"optim/step_skipped": 0.0}
    found = log(
        tmp_path,
        row(1, 1, **made),
        row(2, 1, 3.0, **skipped),
        row(3, 1, **skipped),
        '{"step": 4, "train/masked_inst',  # torn by a crash
        row(2, 2, 1.0, **made),
        row(3, 2, **skipped),
        json.dumps({"step": 3, "eval/loss": 2.0, "attempt": 2}),  # of an evaluation after it
        row(6, 2, **made),
        json.dumps({"event": "something else"}),
    )
    assert found.last == 6
    assert [found.is_skipped(step) for step in range(1, 7)] == [
        False,
        False,
        True,
        None,
        None,
        False,
    ]
    assert found.skipped == [3]
    assert [found.masked_instances(step) for step in (1, 2, 5)] == [0, 1, None]
    assert [found.attempt(step) for step in (1, 2, 5, 6, 7)] == [1, 2, 2, 2, None]
    assert [found.ranks(step) for step in (1, 2, 5, 7)] == [8, 4, 4, None]


def test_a_run_that_skips_nothing_says_so_of_every_step(tmp_path: Path) -> None:
    found = log(tmp_path, row(10, 1), skips=False)
    assert [found.is_skipped(step) for step in (1, 10)] == [False, False]
    assert found.skipped == []
    assert log(tmp_path, skips=True).last == 0
