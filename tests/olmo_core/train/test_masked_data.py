"""Masked data on one rank and on two, across epochs: the same batches, the same losses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olmo_core.run.folder import RunFolder, read_metrics

STEPS = 50
Ranks = Callable[..., list[int | None]]


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
