"""A run that goes on with another batch size: step, moments and the place in the data are kept."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olmo_core.config.duration import Origin
from olmo_core.config.train import load_train_config
from olmo_core.errors import ExitCode
from olmo_core.optim.schedule import Schedule
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.train.__main__ import main
from olmo_core.train.build import build_loader


def test_a_run_goes_on_with_another_batch_size(
    config_file: Path, train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two halves of 250 windows see each instance once; tokens count on, by step and by token."""
    tokens = "scheduler.units=tokens", "scheduler.t_warmup=768"
    assert train("first", "max_duration=8000T", "stop_at=10", *tokens) == 0  # 80 of 250 windows
    half = (f"load_path={tmp_path / 'first'}", "global_train_batch_size=17", "stop_at=null")
    length = ("max_duration=8000T", "device_train_microbatch_size=17")
    main([str(config_file), "--dry_run", *half, *length, *tokens])
    planned = capsys.readouterr().out
    assert "changes from 8 to 17 instances after step 10 (2,560 tokens)" in planned
    assert "(epoch 0, instance 80)" in planned
    assert train("second", *half, *length, *tokens) == 0
    run = tmp_path / "second"
    rows = read_metrics(run / "metrics.jsonl")
    # 8,000 tokens are reached 10 steps of 544 further on: 2,560 + 10 · 544; then ten steps more
    assert [row["step"] for row in rows] == list(range(11, 31))
    assert rows[0]["throughput/total_tokens"] == 2560 + 544
    schedule = Schedule(
        config=load_train_config(config_file, tokens)[0].scheduler, peak=1e-2, end=8000
    )
    rates = [row["optim/learning_rate_group0"] for row in rows]
    assert rates == [schedule.learning_rate(2560 + 544 * k) for k in range(1, 21)]
    # moments are kept: AdamW's own count goes on
    report = RunFolder(run).read_result()["report"]["data"]
    assert report["order"]["origin"] == {"step": 10, "tokens": 2560, "epoch": 0, "instance": 80}

    first, _ = load_train_config(config_file)
    one = build_loader(first)
    two = build_loader(load_train_config(config_file, half)[0])
    two = two.beginning_at(Origin(**report["order"]["origin"]))
    seen = [one.instances(step) for step in range(10)] + [two.instances(s) for s in range(10, 20)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(250))
    digest = hashlib.sha256(two.batch(10).input_ids.astype("<i8").tobytes()).hexdigest()
    assert report["first_batch_sha256"] == digest
    for instance in range(0, 250, 7):
        assert len(one.steps_of(instance) + two.steps_of(instance)) >= 1
        assert all(instance in two.instances(step) for step in two.steps_of(instance, epochs=3))


def test_one_that_changed_its_batch_size_resumes_by_itself(
    train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("first", "stop_at=4") == 0
    half = (f"load_path={tmp_path / 'first'}", "global_train_batch_size=6")
    half += ("device_train_microbatch_size=3", "save_interval=3")
    assert train("whole", *half) == 0
    assert train("stopped", *half, moment="SIGTERM in step 6") == ExitCode.STOPPED
    assert train("stopped", *half) == 0
    losses = [
        [row["train/CrossEntropyLoss"] for row in read_metrics(tmp_path / run / "metrics.jsonl")]
        for run in ("whole", "stopped")
    ]
    assert losses[0] == losses[1]
    assert train("third", f"load_path={tmp_path / 'stopped'}", "global_train_batch_size=6",
                 "stop_at=14", "max_duration=14") == 0  # fmt: skip
    order = RunFolder(tmp_path / "third").read_result()["report"]["data"]["order"]
    assert order["origin"]["step"] == 4
