"""Masked data on one rank and on two, across epochs: the same batches, the same losses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olmo_core.config.train import load_train_config
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.train.build import build_loader

STEPS = 50
Ranks = Callable[..., list[int | None]]


@pytest.mark.slow
def test_one_two_one_ranks_equal_one(ranks: Ranks, token_files: list[str], tmp_path: Path) -> None:
    """50 steps over three epochs; label masks, documents, and instances that repeat themselves.

    The second run stops in the middle of an epoch and at its end, each time with other ranks.
    """
    rng = np.random.default_rng(0)
    paths, masks = [tmp_path / "a.npy", tmp_path / "b.npy"], [tmp_path / "ma", tmp_path / "mb"]
    for source, path, mask in zip(token_files, paths, masks, strict=True):
        tokens = np.fromfile(source, "<u2")[: 32 * 72]
        tokens[rng.random(len(tokens)) < 0.05] = 0
        tokens.reshape(-1, 32)[::6] = 3
        tokens.tofile(path)
        (rng.random(len(tokens)) < 0.5).tofile(mask)
    data = (
        f"data.paths=[{paths[0]}, {paths[1]}]",
        f"data.label_mask_paths=[{masks[0]}, {masks[1]}]",
        "data.generate_doc_lengths=true",
        "data.instance_filter={repetition_max_count: 16}",
        "save_interval=50",
        f"max_duration={STEPS}",
        f"stop_at={STEPS}",
        "optimizer.learning_rate=1e-3",
    )
    assert ranks("one", 1, *data) == [0]
    assert ranks("mixed", 1, *data, "stop_after=11") == [4]
    assert ranks("mixed", 2, *data, "stop_after=25") == [4, 0]  # 36 = two epochs of 18
    assert ranks("mixed", 1, *data) == [0]
    one, mixed = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "mixed"))
    assert [row["step"] for row in one] == list(range(1, STEPS + 1))
    for ours, theirs in zip(one, mixed, strict=True):
        loss = ours["train/CrossEntropyLoss"]
        assert theirs["train/CrossEntropyLoss"] == pytest.approx(loss, rel=1e-5), ours["step"]
        assert theirs["train/masked_instances"] == ours["train/masked_instances"]
    assert sum(row["train/masked_instances"] for row in one) > STEPS
    facts = [
        RunFolder(tmp_path / name).read_result()["report"]["data"] for name in ("one", "mixed")
    ]
    assert facts[0]["first_batch_sha256"] == facts[1]["first_batch_sha256"]
    assert facts[0]["order"] == facts[1]["order"]


def test_a_step_without_labels_has_no_loss(
    train: Callable[..., int], config_file: Path, token_files: list[str], tmp_path: Path
) -> None:
    """Step 6 of 12 has none: no loss is logged, and none enters the history."""
    masks = [tmp_path / "ma", tmp_path / "mb"]
    config, _ = load_train_config(config_file)
    instances = build_loader(config).batch(5).instances
    start = 0
    for source, mask in zip(token_files, masks, strict=True):
        labelled = np.ones(len(np.fromfile(source, "<u2")), dtype=bool)
        windows = len(labelled) // 32
        for instance in instances[(instances >= start) & (instances < start + windows)]:
            labelled[(instance - start) * 32 :][:32] = False
        labelled.tofile(mask)
        start += windows
    given = f"data.label_mask_paths=[{masks[0]}, {masks[1]}]"
    assert train("run", given, "core.skip_step={window: 4}") == 0
    rows = {row["step"]: row for row in read_metrics(tmp_path / "run" / "metrics.jsonl")}
    assert list(rows) == list(range(1, 13))
    for step, row in rows.items():
        for name in ("train/CrossEntropyLoss", "train/Perplexity", "train/ZLoss", "spike/loss"):
            assert (name in row) == (step != 6), (step, name)
    content = json.loads((tmp_path / "run/checkpoints/step12/train.json").read_text())
    assert content["history"]["steps"] == 11
    assert min(content["history"]["losses"]) > 1
    assert "step 6/12 no labels rate" in (tmp_path / "said.txt").read_text()
