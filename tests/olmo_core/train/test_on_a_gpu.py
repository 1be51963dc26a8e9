"""The loop where values are read a step late in earnest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from olmo_core.run.folder import read_metrics

pytestmark = pytest.mark.gpu

EXIT_DIVERGED = 6


def test_every_step_is_logged_in_order_and_twice_the_same(
    train: Callable[..., int], tmp_path: Path
) -> None:
    wanted = ("precision=amp_bf16", "core.skip_step.window=8")
    for name in ("one", "two"):
        assert train(name, *wanted) == 0, (tmp_path / "said.txt").read_text()
    rows = read_metrics(tmp_path / "one" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all(row["System/Peak GPU Memory (MB)"] > 0 for row in rows)
    weights = Path("model", "model.safetensors")
    assert (tmp_path / "one" / weights).read_bytes() == (tmp_path / "two" / weights).read_bytes()


def test_what_is_not_a_number_is_named_by_its_step(
    train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("diverged", moment="NaN in step 6") == EXIT_DIVERGED
    said = (tmp_path / "said.txt").read_text()
    assert "the loss of step 6 is nan" in said
    assert "checkpoints: step4" in said
