"""The mean of a run's last checkpoints, against tensors averaged by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from olmo_core.checkpoint.save import Saver
from olmo_core.config.soups import SoupJobConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file
from olmo_core.optim.adamw import AdamW, Group
from olmo_core.run.folder import RunFolder
from olmo_core.soups import soup
from olmo_core.soups.moving_average import last_steps
from tests.olmo_core.checkpoint.ranks import ALONE, TRAIN
from tests.olmo_core.conftest import finished, run_in


@pytest.mark.parametrize(
    ("last", "count", "save_interval", "expected"),
    [
        (59, 1, 20, [59]),
        (59, 3, 20, [20, 40, 59]),
        (60, 3, 20, [20, 40, 60]),  # the last one is a multiple itself
        (61, 3, 20, [40, 60, 61]),
        (59, 5, 20, [20, 40, 59]),  # there are no more
        (5, 2, 10, [5]),
    ],
)
def test_the_last_checkpoints_are_the_end_and_multiples_before_it(
    last: int, count: int, save_interval: int, expected: list[int]
) -> None:
    assert last_steps(last, count=count, save_interval=save_interval) == expected


def trained(folder: Path, values: dict[int, list[float]]) -> Path:
    """A run whose one tensor had these values at its checkpoints, by step."""
    for step, value in values.items():
        layer = torch.nn.Linear(len(value), 1, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([value]))
        group = Group(parameters=[*layer.parameters()], weight_decay=0.0)
        optimizer = AdamW([group], learning_rate=0.1)
        Saver(folder, ALONE, asynchronous=False).save(
            layer, optimizer, {**TRAIN, "step": step, "tokens": 10 * step}, kind="sharded"
        )
    last = max(values)
    (folder / "model").mkdir()
    weights = folder / "model" / "model.safetensors"
    save_file({"weight": np.array([values[last]], np.float32)}, weights)
    (folder / "model" / "config.yaml").write_text(yaml.safe_dump({"model": {"d_model": 2}}))
    data = {"step": last, "tokens": 10 * last, "model_sha256": sha256_file(weights)}
    return finished(folder, data)


def stir(tmp_path: Path, runs: dict[str, Path], count: int, **config: Any) -> Path:
    section = SoupJobConfig(
        last_checkpoints=count, save_intervals=dict.fromkeys(runs, 20), **config
    )
    return run_in(tmp_path / "root" / "recipe" / "soup" / "0", soup.make, section, runs)


def test_a_run_s_last_checkpoints_become_one_model(tmp_path: Path) -> None:
    values = {20: [100.0, 0.0], 30: [-9.0, -9.0], 40: [1.0, 4.0], 59: [4.0, 5.0]}
    run = trained(tmp_path / "stage1", values)
    folder = stir(tmp_path, {"stage1": run}, 3)
    found = load_file(folder / "model" / "model.safetensors")["weight"]
    np.testing.assert_array_equal(found, [[35.0, 3.0]])  # of 20, 40 and 59: 30 is none of them
    assert (folder / "model" / "config.yaml").read_text() == (
        run / "model" / "config.yaml"
    ).read_text()
    report = RunFolder(folder).read_result()["report"]
    assert report["tables"]["checkpoints"] == [
        {"model": "stage1", "step": step, "tokens": 10 * step} for step in (20, 40, 59)
    ]
    assert (report["data"]["step"], report["data"]["tokens"]) == (59, 590)
    assert report["data"]["model_sha256"] == sha256_file(folder / "model" / "model.safetensors")
    assert not (folder / "work").exists()


def test_each_ingredient_is_averaged_first(tmp_path: Path) -> None:
    runs = {
        "stage2_ingredient1": trained(tmp_path / "1", {20: [1.0], 40: [3.0]}),
        "stage2_ingredient2": trained(tmp_path / "2", {40: [10.0], 50: [20.0]}),
    }
    folder = stir(tmp_path, runs, 2, weights=(0.25, 0.75))
    found = load_file(folder / "model" / "model.safetensors")["weight"]
    np.testing.assert_array_equal(found, [[0.25 * 2 + 0.75 * 15]])
    report = RunFolder(folder).read_result()["report"]
    assert report["data"]["weights"] == [0.25, 0.75]
    assert len(report["tables"]["checkpoints"]) == 4


@pytest.mark.parametrize(
    ("count", "said"),
    [(3, "needs step20, step40, step59; there are: step40, step59"), (9, "and more; there are")],
)
def test_a_checkpoint_that_is_gone_is_named(tmp_path: Path, count: int, said: str) -> None:
    run = trained(tmp_path / "stage1", {40: [1.0], 59: [2.0]})
    with pytest.raises(InputError, match=said):
        stir(tmp_path, {"stage1": run}, count)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run = trained(tmp_path / "stage1", {40: [1.0], 59: [2.0]})
    path = next((run / "checkpoints" / "step40" / "model_and_optim").glob("*.distcp"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match=r"step40/model_and_optim/.* has changed"):
        stir(tmp_path, {"stage1": run}, 2)
    assert not (tmp_path / "root/recipe/soup/0/model").exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run = trained(tmp_path / "stage1", {40: [1.0, 2.0], 59: [2.0]})
    with pytest.raises(InputError, match=r"step40/model_and_optim: other tensors .*: weight"):
        stir(tmp_path, {"stage1": run}, 2)


def test_it_must_be_said_how_far_checkpoints_lie_apart(tmp_path: Path) -> None:
    run = trained(tmp_path / "stage1", {40: [1.0], 59: [2.0]})
    config = SoupJobConfig(last_checkpoints=2)
    with pytest.raises(ConfigError, match="save_intervals: stage1: missing"):
        run_in(tmp_path / "root" / "recipe" / "soup" / "0", soup.make, config, {"stage1": run})
