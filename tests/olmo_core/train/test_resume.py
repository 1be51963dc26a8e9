"""A run that was stopped or damaged goes on where it was, to the same last bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from olmo_core.run.folder import read_metrics

Train = Callable[..., int]
EXIT_CONFIG, EXIT_INPUT, EXIT_STOPPED, EXIT_DIVERGED = 2, 3, 4, 6


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = sorted(read_metrics(folder / "metrics.jsonl"), key=lambda row: row["step"])
    return [(row["step"], row["train/CrossEntropyLoss"]) for row in rows]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_asked_to_stop_it_saves_and_says_so_and_goes_on_later(
    train: Train, undisturbed: Path, tmp_path: Path, signal: str
) -> None:
    assert train("stopped", moment=f"{signal} in step 6") == EXIT_STOPPED
    stopped = tmp_path / "stopped"
    status = json.loads((stopped / "status.json").read_text())
    assert status["state"] == "stopped"
    assert status["error"] == "Stopped: on request; the checkpoint of step 6 is whole"
    assert "step6" in checkpoints(stopped)
    # ten more steps were made to overlap with the next attempt, as far as there are as many
    assert [row["step"] for row in rows(stopped)] == list(range(1, 13))
    assert train("stopped") == 0
    assert weights(stopped) == weights(undisturbed)
    assert losses(stopped) == losses(undisturbed)
    assert [row["step"] for row in rows(stopped) if row["attempt"] == 2] == list(range(7, 13))
    # made for the restart alone, and so gone once a permanent one was newer
    assert checkpoints(stopped) == {"step4", "step8", "step12"}


def test_a_time_limit_saves_at_once_and_makes_the_extra_steps(
    train: Train, undisturbed: Path, tmp_path: Path
) -> None:
    short = ("time_limit=1e-6", "extra_steps_after_cancel=3", "save_interval=2")
    assert train("limited", *short) == EXIT_STOPPED
    limited = tmp_path / "limited"
    assert [row["step"] for row in rows(limited)] == [1, 2, 3, 4]
    assert checkpoints(limited) == {"step1"}  # none of the extra steps is saved
    said = (tmp_path / "said.txt").read_text()
    assert said.endswith("stopped: by time_limit; the checkpoint of step 1 is whole\n")
    assert train("limited") == 0
    assert weights(limited) == weights(undisturbed)


def test_without_its_config_a_run_is_not_resumed(train: Train, tmp_path: Path) -> None:
    assert train("run", "stop_after=5") == EXIT_STOPPED
    config = tmp_path / "run" / "config.yaml"
    kept = config.rename(tmp_path / "kept.yaml")
    assert train("run", "optimizer.learning_rate=2e-2") == EXIT_CONFIG
    assert f"{config}: missing, so nothing says" in (tmp_path / "said.txt").read_text()
    kept.rename(config)
    assert train("run") == 0


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        ("NaN in step 6", "the loss of step 6 is nan"),
        ("infinite gradient in step 6", "the gradient norm of step 6 is inf"),
    ],
)
def test_what_is_not_a_number_stops_before_its_update(
    moment: str, message: str, train: Train, tmp_path: Path
) -> None:
    assert train("diverged", moment=moment) == EXIT_DIVERGED
    said = (tmp_path / "said.txt").read_text()
    assert message in said
    assert f"Go back to {tmp_path}/diverged/checkpoints/step4" in said
    assert checkpoints(tmp_path / "diverged") == {"step4"}


def test_where_there_is_no_checkpoint_to_go_back_to_it_says_so(
    train: Train, tmp_path: Path
) -> None:
    never = "save_interval=null"
    assert train("diverged", never, moment="NaN in step 6") == EXIT_DIVERGED
    said = (tmp_path / "said.txt").read_text()
    assert "its update was not made. The run has no checkpoint yet: begin again" in said
    assert "Go back" not in said


def test_values_read_a_step_late_change_nothing(
    train: Train, undisturbed: Path, tmp_path: Path
) -> None:
    assert train("late", moment="note patience, read a step late") == 0
    assert weights(tmp_path / "late") == weights(undisturbed)
    assert losses(tmp_path / "late") == losses(undisturbed)
    # minutes for the others: 5 once step 1 is known to be done, until only the first writes
    expected = ["30", "step", "step", "5", *["step"] * 10, "30"]
    assert (tmp_path / "late" / "patience.txt").read_text().split() == expected
    # asked in step 1, told in step 2, and no value of an extra step is lost
    short = ("time_limit=1e-6", "extra_steps_after_cancel=3")
    assert train("short", *short, moment="read a step late") == EXIT_STOPPED
    assert [row["step"] for row in rows(tmp_path / "short")] == [1, 2, 3, 4, 5]
    assert checkpoints(tmp_path / "short") == {"step2"}


def test_read_a_step_late_the_right_step_is_named_and_no_update_is_made_after_it(
    train: Train, tmp_path: Path
) -> None:
    assert train("diverged", moment="NaN in step 6, read a step late") == EXIT_DIVERGED
    said = (tmp_path / "said.txt").read_text()
    assert "the loss of step 6 is nan" in said
    assert f"Go back to {tmp_path}/diverged/checkpoints/step4" in said
    assert losses(tmp_path / "diverged")[-1][0] == 5
    assert (tmp_path / "diverged" / "weights.txt").read_text() == "same"


def test_a_spike_is_skipped_and_a_resumed_run_skips_it_too(train: Train, tmp_path: Path) -> None:
    # at step 8 there are values enough only if those before the checkpoint of step 4 are kept
    skipping = "core.skip_step.window=12"
    assert train("plain", moment="spike in call 8") == 0
    assert train("whole", skipping, moment="spike in call 8") == 0
    assert train("broken", skipping, "stop_after=4") == EXIT_STOPPED
    assert train("broken", skipping, moment="spike in call 4") == 0
    plain, whole, broken = (tmp_path / name for name in ("plain", "whole", "broken"))
    skipped = [row["step"] for row in rows(whole) if row["optim/step_skipped"]]
    assert skipped == [8]
    assert losses(whole)[:8] == losses(plain)[:8]
    assert weights(whole) != weights(plain)
    assert weights(broken) == weights(whole)
    assert losses(broken) == losses(whole)


def test_a_skipped_step_changes_no_weight_moment_or_count_of_any_shard(
    ranks: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    every_step = ("core.skip_step.window=12", "save_interval=1", "stop_after=9")
    assert ranks("run", 2, *every_step, moment="spike in call 8")[0] == EXIT_STOPPED
    skipped = [row["optim/step_skipped"] for row in rows(tmp_path / "run")]
    assert skipped == [0] * 7 + [1, 0]
    manifests = [
        json.loads((tmp_path / f"run/checkpoints/step{step}/manifest.json").read_text())["files"]
        for step in (7, 8, 9)
    ]
    for rank in (0, 1):
        shard = f"model_and_optim/__{rank}_0.distcp"
        seventh, eighth, ninth = (files[shard]["sha256"] for files in manifests)
        assert seventh == eighth != ninth


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    damage: str, train: Train, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert train("run") == 0
    before = weights(folder)
    (folder / "result.json").unlink()
    shard = folder / "checkpoints" / "step12" / "model_and_optim" / "__0_0.distcp"
    manifest = shard.parent.parent / "manifest.json"
    named = manifest if damage == "no manifest" else shard
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif damage == "changed":
        flip_a_byte(shard)
    else:
        named.unlink()
    assert train("run") == 0
    said = (tmp_path / "said.txt").read_text()
    assert f"refused checkpoint step12: {named}" in said
    assert "using the previous whole checkpoint" in said
    assert weights(folder) == before
    assert "step12.corrupt" in checkpoints(folder)


def test_where_no_checkpoint_is_whole_nothing_is_begun_again(train: Train, tmp_path: Path) -> None:
    assert train("run", "stop_after=5") == EXIT_STOPPED
    for shard in (tmp_path / "run").glob("checkpoints/step*/model_and_optim/__0_0.distcp"):
        flip_a_byte(shard)
    assert train("run") == EXIT_INPUT
    assert "no checkpoint is whole" in (tmp_path / "said.txt").read_text()


def test_a_finished_run_is_left_alone(train: Train, tmp_path: Path) -> None:
    assert train("run") == 0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert train("run") == 0
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_other_data_under_a_started_run_is_refused(train: Train, tmp_path: Path) -> None:
    assert train("run", "stop_after=5") == EXIT_STOPPED
    assert train("run", "data.seed=9") == EXIT_CONFIG
    assert "data.seed None -> 9" in (tmp_path / "said.txt").read_text()


def test_a_full_disk_is_seen_before_a_byte_is_written(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from olmo_core.checkpoint.save import _require_space
    from olmo_core.errors import InputError

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"0 MB free, a checkpoint .* need 67 MB"):
        _require_space(tmp_path, {})
