"""A run may change its number of ranks: the same global batches, the same losses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olmo_core.run.folder import read_metrics

Ranks = Callable[..., list[int | None]]
STEPS = 50  # beyond the first epoch, of 31 steps
LOSS = "train/CrossEntropyLoss"


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory, token_files: list[str]) -> list[str]:
    """A third of the labels is masked, in runs."""
    folder = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(1)
    paths: list[str] = []
    for path in token_files:
        kept = np.repeat(rng.random(Path(path).stat().st_size // 2 // 7 + 1) < 0.67, 7)
        paths.append(str(folder / Path(path).name))
        kept[: Path(path).stat().st_size // 2].tofile(paths[-1])
    return paths


def instances(folder: Path) -> dict[int, list[int]]:
    """Step -> the instances of all ranks, sorted; a step is done once."""
    found: dict[int, list[int]] = {}
    for line in (folder / "instances.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["step"], []).extend(row["instances"])
    return {step: sorted(numbers) for step, numbers in found.items()}


@pytest.fixture
def learn(ranks: Ranks, masks: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Train 50 steps of masked data in parts: (ranks, steps) each; the last part is the rest."""
    common = (
        f"max_duration={STEPS}",
        f"stop_at={STEPS}",
        "save_interval=null",
        # at 1e-2 rounding grows: the loss of step 43 moves 3e-5 with the order of the sums
        "optimizer.learning_rate=3e-3",
        f"data.label_mask_paths=[{','.join(masks)}]",
        "data.instance_filter.repetition_max_count=3",
    )

    def learn(name: str, *parts: tuple[int, int], overrides: tuple[str, ...] = ()) -> Path:
        for size, steps in parts:
            more = () if (size, steps) == parts[-1] else (f"stop_after={steps}",)
            nodes = 2 if size == 4 else 1
            codes = ranks(
                name, size, *common, *overrides, *more, nodes=nodes, moment="note instances"
            )
            assert codes == [4 if more else 0] + [0] * (size - 1), (
                tmp_path / "said.txt"
            ).read_text()
        return tmp_path / name

    return learn


@pytest.mark.slow
def test_one_two_or_four_ranks_and_back_learn_the_same(learn: Callable[..., Path]) -> None:
    alone = learn("alone", (1, STEPS))
    batches, expected = instances(alone), read_metrics(alone / "metrics.jsonl")
    assert list(batches) == list(range(1, STEPS + 1))
    assert any(row["train/masked_instances"] for row in expected)
    assert expected[-1][LOSS] < 0.98 * expected[0][LOSS]
    ways = {
        "fsdp": ((1, 17), (2, 17), (1, 16)),
        "ddp": ((1, 17), (2, 17), (1, 16)),
        "hybrid": ((2, 17), (4, 17), (1, 16)),
    }
    for name, parts in ways.items():
        given = "distributed_strategy=ddp" if name == "ddp" else "distributed_strategy=fsdp"
        sharding = "HYBRID_SHARD" if name == "hybrid" else "FULL_SHARD"
        folder = learn(name, *parts, overrides=(given, f"fsdp.sharding_strategy={sharding}"))
        assert instances(folder) == batches, name
        found = read_metrics(folder / "metrics.jsonl")
        for ours, theirs in zip(found, expected, strict=True):
            assert ours["train/masked_instances"] == theirs["train/masked_instances"]
            assert ours[LOSS] == pytest.approx(theirs[LOSS], rel=1e-5), (name, ours["step"])
