"""Two ranks learn what one learns: one sum of losses over one global count of labels."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from olmo_core.errors import ConfigError
from olmo_core.parallel.world import read_world
from olmo_core.run.folder import RunFolder, read_metrics

Ranks = Callable[..., list[int | None]]


def test_two_ranks_equal_one_and_each_can_resume_the_other(ranks: Ranks, tmp_path: Path) -> None:
    one, two, mixed = (tmp_path / name for name in ("one", "two", "mixed"))
    assert ranks("one", 1) == [0]
    assert ranks("two", 2) == [0, 0]
    assert ranks("again", 2) == [0, 0]
    assert ranks("mixed", 1, "stop_after=4") == [4]
    assert ranks("mixed", 2, "stop_after=4") == [4, 0]
    assert ranks("mixed", 1) == [0]
    for other in (two, mixed):
        for ours, theirs in zip(
            read_metrics(one / "metrics.jsonl"), read_metrics(other / "metrics.jsonl"), strict=True
        ):
            for key in ("train/CrossEntropyLoss", "train/ZLoss"):
                assert theirs[key] == pytest.approx(ours[key], rel=1e-5), (ours["step"], key)
            norm = ours["optim/total_grad_norm"]
            assert theirs["optim/total_grad_norm"] == pytest.approx(norm, rel=1e-3)
            assert theirs["train/masked_instances"] == ours["train/masked_instances"]
        weights = load_file(other / "model" / "model.safetensors")
        for name, tensor in load_file(one / "model" / "model.safetensors").items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)
    slowest = [row.get("throughput/slowest_rank") for row in read_metrics(two / "metrics.jsonl")]
    assert set(slowest) <= {0, 1}
    assert not any("slowest" in key for key in read_metrics(one / "metrics.jsonl")[0])
    model = Path("model", "model.safetensors")
    assert (two / model).read_bytes() == (tmp_path / "again" / model).read_bytes()
    first, second = (RunFolder(folder).read_result()["report"]["data"] for folder in (one, two))
    assert first["first_batch_sha256"] == second["first_batch_sha256"]
    assert len(list((two / "checkpoints" / "step12" / "model_and_optim").glob("__*"))) == 2


def test_a_batch_that_does_not_divide_is_refused(ranks: Ranks, tmp_path: Path) -> None:
    assert ranks("run", 2, "global_train_batch_size=7") == [2, 2]
    assert "does not divide by 2 ranks" in (tmp_path / "said.txt").read_text()


def test_tokens_are_checked_once_a_machine_and_stop_all_ranks(ranks: Ranks, tmp_path: Path) -> None:
    assert ranks("run", 2, "model.vocab_size=50", "model.eos_token_id=0") == [3, 3]
    said = (tmp_path / "said.txt").read_text()
    assert said.count("the model's vocabulary has 50 entries") == 2
    assert ranks("run", 2, "stop_at=2") == [0, 0]
    assert (tmp_path / "said.txt").read_text().count("checked all windows") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LOCAL_WORLD_SIZE": None}, "not LOCAL_WORLD_SIZE"),
        ({"RANK": "4"}, "inconsistent"),
        ({"LOCAL_RANK": "2"}, "inconsistent"),
        ({"RANK": "first"}, "whole numbers"),
        ({"RANK": "2"}, "inconsistent"),  # its node's ranks are not consecutive
        ({"LOCAL_WORLD_SIZE": "3"}, "inconsistent"),  # nodes of unequal size
        ({"MASTER_PORT": None}, "no MASTER_PORT"),
    ],
)
def test_an_inconsistent_environment_is_refused(
    change: Mapping[str, str | None], message: str
) -> None:
    whole = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}  # fmt: skip
    assert read_world(whole).nodes == 2
    given = {key: value for key, value in {**whole, **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        read_world(given)


def test_several_tasks_without_torchrun_are_refused() -> None:
    assert read_world({"SLURM_STEP_NUM_TASKS": "1"}).size == 1
    with pytest.raises(ConfigError, match="SLURM_STEP_NUM_TASKS is 4, but RANK is not set"):
        read_world({"SLURM_STEP_NUM_TASKS": "4"})


def test_without_torchrun_there_is_one_rank() -> None:
    world = read_world({})
    assert (world.rank, world.size, world.first) == (0, 1, True)


def test_two_ranks_start_from_weights_as_one_does(
    ranks: Ranks, undisturbed: Path, tmp_path: Path
) -> None:
    given = (f"load_path={undisturbed / 'model'}", "stop_at=2")
    assert ranks("one", 1, *given) == [0]
    assert ranks("two", 2, *given) == [0, 0]
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    loss = "train/CrossEntropyLoss"
    assert one[0][loss] < read_metrics(undisturbed / "metrics.jsonl")[0][loss] - 0.1
    for ours, theirs in zip(one, two, strict=True):
        assert ours[loss] == pytest.approx(theirs[loss], rel=1e-6)
