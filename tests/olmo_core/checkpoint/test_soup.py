"""The soup is the mean of its ingredients, and nothing unequal is averaged."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from olmo_core.checkpoint.soup import ingredient_order, make
from olmo_core.config.load import build
from olmo_core.config.release import SoupConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job


def ingredient(folder: Path, tensors: dict[str, np.ndarray], **model: object) -> Path:
    (folder / "model").mkdir(parents=True)
    save_file(tensors, folder / "model" / "model.safetensors")
    (folder / "model" / "config.yaml").write_text(
        yaml.safe_dump({"model": {"d_model": 4, **model}})
    )
    data = {"step": 7, "tokens": 1000, "parent": {"model_sha256": "ab"}}
    content = {"schema_version": 1, "report": {"data": data}}
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def stir(tmp_path: Path, inputs: dict[str, Path], config: SoupConfig | None = None) -> Path:
    folder = tmp_path / "root" / "recipe" / "soup" / "0"
    with Job.open(folder) as job:
        job.finish(make(config or SoupConfig(), inputs, job))
    return folder


def random_tensors(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "b": rng.normal(size=(5, 3)).astype(np.float32),
        "a": (1e4 * rng.normal(size=11)).astype(np.float32),
        "half": rng.normal(size=4).astype(np.float16),
    }


def test_mean_in_f64_rounded_once(tmp_path: Path) -> None:
    parts = [random_tensors(seed) for seed in range(3)]
    inputs = {
        f"stage2_ingredient{i + 1}": ingredient(tmp_path / str(i), part)
        for i, part in enumerate(parts)
    }
    folder = stir(tmp_path, inputs)
    found = load_file(folder / "model" / "model.safetensors")
    for name in parts[0]:
        exact = np.mean([part[name].astype(np.float64) for part in parts], axis=0)
        np.testing.assert_array_equal(found[name], exact.astype(parts[0][name].dtype))
    data = RunFolder(folder).read_result()["report"]["data"]
    assert [parent["model"] for parent in data["parents"]] == list(inputs)
    assert data["step"] == 7
    assert data["tokens"] == 3000
    assert {parent["parent_sha256"] for parent in data["parents"]} == {"ab"}
    assert str(tmp_path) not in (folder / "model" / "parents.json").read_text()
    assert yaml.safe_load((folder / "model" / "config.yaml").read_text()) == {
        "model": {"d_model": 4}
    }


def test_weights_of_ingredients(tmp_path: Path) -> None:
    parts = [random_tensors(seed) for seed in range(2)]
    inputs = {str(i): ingredient(tmp_path / str(i), part) for i, part in enumerate(parts)}
    folder = stir(tmp_path, inputs, SoupConfig(weights=(0.25, 0.75)))
    found = load_file(folder / "model" / "model.safetensors")["b"]
    expected = 0.25 * parts[0]["b"].astype(np.float64) + 0.75 * parts[1]["b"].astype(np.float64)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    with pytest.raises(ConfigError, match=r"sum to 0\.9"):
        build(SoupConfig, {"weights": [0.5, 0.4]}, where="soup")
    with pytest.raises(ConfigError, match="2 weights for 3 ingredients"):
        stir(tmp_path, {**inputs, "2": inputs["1"]}, SoupConfig(weights=(0.5, 0.5)))


def test_the_same_ingredients_give_the_same_bytes(tmp_path: Path) -> None:
    inputs = {str(i): ingredient(tmp_path / str(i), random_tensors(i)) for i in (1, 2)}
    first = stir(tmp_path / "one", inputs)
    second = stir(tmp_path / "two", dict(reversed(inputs.items())))
    digests = [RunFolder(folder).read_result()["digest"] for folder in (first, second)]
    assert digests[0] == digests[1]


def test_ten_comes_after_nine() -> None:
    names = [f"stage2_ingredient{k}" for k in (10, 9, 1)]
    assert ingredient_order(names) == names[::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": np.zeros((5, 4), np.float32)}, r"b is F32 \[5, 3\] in one and F32 \[5, 4\] in two"),
        ({"b": np.zeros((5, 3), np.float16)}, "b is F32 .* in one and F16 .* in two"),
        ({"new": np.zeros(1, np.float32)}, "new is only in two"),
    ],
)
def test_unequal_ingredients_are_refused(
    tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    one = ingredient(tmp_path / "one", random_tensors(0))
    two = ingredient(tmp_path / "two", {**random_tensors(1), **change})
    with pytest.raises(InputError, match=message):
        stir(tmp_path, {"one": one, "two": two})
    assert not (tmp_path / "root/recipe/soup/0/model/model.safetensors").exists()


def test_other_bad_ingredients_are_refused(tmp_path: Path) -> None:
    one = ingredient(tmp_path / "one", random_tensors(0))
    with pytest.raises(ConfigError, match="two ingredients or more"):
        stir(tmp_path, {"one": one})
    other = ingredient(tmp_path / "other", random_tensors(1), d_model=8)
    with pytest.raises(InputError, match=r"differ in model\.d_model: 4 and 8"):
        stir(tmp_path, {"one": one, "other": other})
    weights = other / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"model\.safetensors: truncated: "):
        stir(tmp_path, {"one": one, "other": other})


def test_bfloat16_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    inputs = {str(i): ingredient(tmp_path / str(i), random_tensors(i)) for i in (1, 2)}
    for folder in inputs.values():
        tensors = {"a": torch.ones(3), "z.brain": torch.ones(2).bfloat16()}
        save_torch_file(tensors, folder / "model" / "model.safetensors")
    with pytest.raises(InputError, match=r"1/model/model\.safetensors: z\.brain: BF16; expected"):
        stir(tmp_path, inputs)
    assert not (tmp_path / "root/recipe/soup/0/model").exists()


def test_command_line(tmp_path: Path) -> None:
    inputs = {str(i): str(ingredient(tmp_path / str(i), random_tensors(i))) for i in (1, 2)}
    folder = tmp_path / "root" / "recipe" / "soup" / "0"
    folder.mkdir(parents=True)
    config = {"asset": "soup", "config": {}, "inputs": inputs}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "olmo_core.checkpoint.soup", str(folder / "config.yaml")]
    subprocess.run(command, check=True, capture_output=True)
    assert RunFolder(folder).read_result()["report"]["numbers"]["ingredients"] == 2
