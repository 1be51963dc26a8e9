"""Compiled block by block, a run has the same bits whether or not it was compiled before."""

from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from olmo_core.run.folder import read_metrics
from tests.processes import exit_codes

Start = Callable[..., BaseProcess]


@pytest.mark.slow
def test_cold_and_warm_the_bits_are_the_same(
    start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    for folder in ("cold", "warm"):
        process = start(folder, "compile.fullgraph=true", environment=environment)
        assert exit_codes([process], 300) == [0], (tmp_path / "said.txt").read_text()
        assert list((tmp_path / "cache").rglob("*.so"))
    cold, warm = (tmp_path / name / "model" / "model.safetensors" for name in ("cold", "warm"))
    assert cold.read_bytes() == warm.read_bytes()
    eager = read_metrics(undisturbed / "metrics.jsonl")
    for ours, theirs in zip(read_metrics(tmp_path / "cold" / "metrics.jsonl"), eager, strict=True):
        loss = "train/CrossEntropyLoss"
        assert ours[loss] == pytest.approx(theirs[loss], rel=1e-5)
