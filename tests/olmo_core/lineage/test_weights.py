"""How far weights lie apart, against numpy on whole tensors."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict_saver import save

from olmo_core.errors import InputError
from olmo_core.lineage import weights
from olmo_core.lineage.weights import compare_weights

NAMES = (
    "embeddings.weight",
    "blocks.2.w1.weight",
    "blocks.10.w1.weight",
    "blocks.10.w2.weight",
)


def tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(7, 5, generator=generator).to(dtype) for name in NAMES}


def write(folder: Path, values: Mapping[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(dict(values), folder / "model.safetensors")
    return folder


def relative(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    old, new = (np.concatenate([t.double().numpy().ravel() for t in side]) for side in (a, b))
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_tensors_layers_and_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(weights, "BLOCK", 8)  # several blocks per tensor, the last one short
    a, b = tensors(0), tensors(1, dtype)
    b["embeddings.weight"] = a["embeddings.weight"]
    found = compare_weights(write(tmp_path / "a", a), write(tmp_path / "b", b))
    assert {each.name: each.relative for each in found.tensors} == pytest.approx(
        {name: relative([a[name]], [b[name]]) for name in NAMES}, rel=1e-12
    )
    known = [each.relative for each in found.tensors]
    assert known == sorted(known, key=lambda each: -(each or 0))
    assert [each.name for each in found.layers] == ["blocks.2", "blocks.10", "embeddings.weight"]
    both = ["blocks.10.w1.weight", "blocks.10.w2.weight"]
    expected = relative([a[name] for name in both], [b[name] for name in both])
    assert found.layers[1].relative == pytest.approx(expected, rel=1e-12)
    whole = relative(list(a.values()), list(b.values()))
    assert found.whole.relative == pytest.approx(whole, rel=1e-12)
    assert found.equal == 1
    assert not found.not_compared


def test_what_is_not_compared_is_named(tmp_path: Path) -> None:
    a, b = tensors(0), tensors(0)
    del b["embeddings.weight"]
    b["blocks.2.w1.weight"] = torch.zeros(5, 7)
    a["blocks.10.w1.weight"] = b["blocks.10.w1.weight"] = torch.ones(2, dtype=torch.int64)
    found = compare_weights(write(tmp_path / "a", a), write(tmp_path / "b", b))
    assert [each.name for each in found.tensors] == ["blocks.10.w2.weight"]
    assert found.not_compared == [
        "blocks.2.w1.weight: F32 [7, 5] and F32 [5, 7]",
        "blocks.10.w1.weight: I64 [2] and I64 [2]",
        "embeddings.weight: only in the first",
    ]


def test_zeros_and_what_is_no_number_have_no_relative_difference(tmp_path: Path) -> None:
    a = {"zeros": torch.zeros(3), "still": torch.zeros(3), "nan": torch.ones(3)}
    b = {"zeros": torch.ones(3), "still": torch.zeros(3), "nan": torch.full((3,), torch.nan)}
    found = compare_weights(write(tmp_path / "a", a), write(tmp_path / "b", b))
    assert {each.name: each.relative for each in found.tensors} == {
        "zeros": None,
        "still": 0.0,
        "nan": None,
    }
    assert found.tensors[-1].name == "still"  # what has no figure comes first


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", tensors(0)), write(tmp_path / "b", tensors(0))
    file = b / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"b/model\.safetensors"):
        compare_weights(a, b)


def checkpoint(folder: Path, values: Mapping[str, torch.Tensor]) -> Path:
    """Write a checkpoint as torch's own library does, the moments of the optimizer in it."""
    state = {f"model.{name}": value for name, value in values.items()}
    state |= {f"optim.{name}.exp_avg": torch.ones(3) for name in values}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(state, checkpoint_id=folder / "model_and_optim", no_dist=True)
    return folder


def test_checkpoints_are_compared_with_each_other_and_with_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "BLOCK", 8)
    a, b = tensors(0), tensors(1)
    expected = compare_weights(write(tmp_path / "a", a), write(tmp_path / "b", b))
    first, second = checkpoint(tmp_path / "one", a), checkpoint(tmp_path / "two", b)
    assert compare_weights(first, second).not_compared == []
    for old, new in ((first, second), (first, tmp_path / "b"), (tmp_path / "a", second)):
        found = compare_weights(old, new)
        assert {each.name: each.relative for each in found.tensors} == pytest.approx(
            {each.name: each.relative for each in expected.tensors}, rel=1e-12
        )
    assert compare_weights(first, tmp_path / "a").equal == len(NAMES)


def test_a_checkpoint_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "one", tensors(0))
    (folder / "model_and_optim" / ".metadata").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"\.metadata"):
        compare_weights(folder, folder)
