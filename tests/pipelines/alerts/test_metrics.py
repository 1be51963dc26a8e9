"""Rows of metrics.jsonl: spikes and values that are no numbers, each told once."""

import json
from pathlib import Path

import pytest

from olmo_core.train.state import WINDOW, History
from pipelines.alerts import metrics
from pipelines.alerts.metrics import Reading, read_on, skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def append(path: Path, *rows: dict[str, object]) -> None:
    with path.open("a") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def row(step: int, *, loss: float = 3.0, spike: int = 0, share: float = 0.0) -> dict[str, object]:
    return {
        "step": step,
        "train/CrossEntropyLoss": loss,
        "optim/total_grad_norm": 1.0,
        "spike/loss": spike,
        "spike/grad_norm": 0,
        "spike/SpikeScore (total)": share,
    }


def test_a_spike_is_told_once_with_its_step_and_value(path: Path) -> None:
    reading = Reading()
    assert not read_on(path, reading).spikes  # there is no file yet
    append(path, row(1), row(2, loss=9.5, spike=1, share=0.01))
    found = read_on(path, reading)
    assert found.spikes == ["loss 9.5 at step 2"]
    assert found.spike_step == 2
    append(path, row(3, share=0.009))
    assert not read_on(path, reading).spikes


def test_a_row_that_is_being_written_waits_and_a_damaged_one_is_passed_over(path: Path) -> None:
    reading = Reading()
    append(path, row(1))
    whole = json.dumps(row(2, spike=1)).encode() + b"\n"
    with path.open("ab") as file:
        file.write(b"{torn}\n" + whole[:40])
    assert not read_on(path, reading).spikes
    with path.open("ab") as file:
        file.write(whole[40:])
    assert read_on(path, reading).spike_step == 2


def test_a_resumed_run_that_repeats_steps_tells_nothing_again(path: Path) -> None:
    reading = Reading()
    append(path, row(1), row(2, spike=1, share=0.1), row(3, share=0.09))
    assert read_on(path, reading).spikes
    append(path, row(1), row(2, spike=1, share=0.1), row(3, share=0.09), row(4, spike=1))
    assert read_on(path, reading).spikes == ["loss 3 at step 4"]


def test_what_is_no_number_is_named(path: Path) -> None:
    append(path, row(7), {**row(8), "train/CrossEntropyLoss": float("nan"), "x": float("inf")})
    append(path, {"model": "soup", "value": float("nan")})  # an evaluation's row has no step
    found = read_on(path, Reading())
    assert found.not_finite == ["train/CrossEntropyLoss, x at step 8"]
    assert found.not_finite_step == 8
    assert not found.spikes


def test_spikes_of_steps_that_are_not_logged_show_in_the_share(path: Path) -> None:
    """As training itself counts them, logging each tenth step."""
    history, reading, told = History(), Reading(), 0
    spikes = {WINDOW + 5, WINDOW + 32, WINDOW + 50}  # the last one in a row that is logged
    for step in range(1, WINDOW + 62):
        loss = 30.0 if step in spikes else 3.0 + 0.01 * (step % 7)
        spike = history.record(loss, 1.0)
        if step % 10 == 8:
            share = {"spike/SpikeScore (total)": history.spikes_in_all / history.steps}
            logged = {"step": step, "spike/loss": int(spike[0]), "spike/grad_norm": int(spike[1])}
            append(path, {**logged, **(share if step >= WINDOW else {})})
            told += bool(read_on(path, reading).spikes)
    assert history.spikes_in_all == len(spikes)
    assert told == len(spikes)


def test_what_was_there_before_the_first_look_is_skipped_however_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LAST_ROW_BYTES", 400)
    append(path, *(row(step, spike=1, share=0.5) for step in range(1, 60)))
    reading = Reading()
    skip(path, reading)
    assert (reading.step, reading.share) == (59, 0.5)
    assert reading.offset == path.stat().st_size
    append(path, row(60, share=0.49), row(61, spike=1, share=0.5))
    assert read_on(path, reading).spikes == ["loss 3 at step 61"]


def test_a_long_file_is_read_in_several_looks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_BYTES", 500)
    append(path, *(row(step, spike=1) for step in range(1, 21)))
    reading, steps = Reading(), []
    while (found := read_on(path, reading)).spikes:
        steps += [said.rpartition(" ")[2] for said in found.spikes]
    assert steps == [str(step) for step in range(1, 21)]


def test_another_file_in_its_place_is_read_from_its_beginning(path: Path) -> None:
    reading = Reading()
    append(path, *(row(step) for step in range(1, 9)))
    read_on(path, reading)
    path.write_text("")
    append(path, row(1, spike=1))
    assert read_on(path, reading).spike_step == 1
