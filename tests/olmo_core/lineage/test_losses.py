"""The losses of trainings side by side, on logs written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path

from olmo_core.lineage.losses import LossDifference, Losses, compare_losses, read_losses
from olmo_core.run.folder import RunFolder

LOSS, TOKENS = "train/CrossEntropyLoss", "throughput/total_tokens"


def write_log(folder: Path, losses: Mapping[int, float]) -> RunFolder:
    folder.mkdir()
    run = RunFolder(folder)
    rows = ({"step": step, LOSS: loss, TOKENS: 8 * step} for step, loss in losses.items())
    run.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return run


def read(run: RunFolder) -> Losses:
    losses = read_losses(run)
    assert losses is not None
    return losses


def test_the_last_row_of_a_step_counts_and_a_torn_line_does_not(tmp_path: Path) -> None:
    run = write_log(tmp_path / "run", {1: 9.0, 2: 8.0, 3: 7.0})
    with run.metrics.open("a") as log:
        log.write(f"{json.dumps({'step': 2, LOSS: 8.5, TOKENS: 16})}\n")
        log.write(f"{json.dumps({'step': 3, 'eval/loss': 1.0})}\n")
        log.write('{"step": 4, "train/CrossEnt')
    expected = Losses(steps=(1, 2, 3), tokens=(8.0, 16.0, 24.0), losses=(9.0, 8.5, 7.0))
    assert read_losses(run) == expected
    up_to = read_losses(run, up_to=2)
    assert up_to is not None
    assert up_to.steps == (1, 2)
    assert read_losses(RunFolder(tmp_path / "none")) is None


def test_where_they_part_and_lie_furthest_apart(tmp_path: Path) -> None:
    before = read(write_log(tmp_path / "a", {1: 9.0, 2: 8.0, 3: 7.0, 5: 6.0}))
    after = read(write_log(tmp_path / "b", {1: 9.0, 2: 8.25, 3: 6.5, 4: 1.0}))
    assert compare_losses(before, after) == LossDifference(
        steps=3,
        last=(5, 4),
        last_losses=(6.0, 1.0),
        first_step=2,
        largest=-0.5,
        largest_step=3,
    )
    same = compare_losses(before, before)
    assert same is not None
    assert (same.first_step, same.largest) == (None, 0.0)


def test_no_step_in_common_is_no_comparison(tmp_path: Path) -> None:
    before = read(write_log(tmp_path / "a", {1: 9.0}))
    after = read(write_log(tmp_path / "b", {2: 9.0}))
    assert compare_losses(before, after) is None


def test_a_thinned_curve_keeps_its_ends(tmp_path: Path) -> None:
    losses = read(write_log(tmp_path / "a", {step: float(step) for step in range(1, 1001)}))
    thin = losses.thinned(10)
    assert len(thin.steps) == len(thin.losses) == len(thin.tokens) == 10
    assert (thin.steps[0], thin.steps[-1]) == (1, 1000)
    assert losses.thinned(1000) == losses
