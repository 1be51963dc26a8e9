"""Tensor files: the library reads what we write, and we stop at what is not whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from olmo_core.checkpoint.tensor_file import TensorFile, TensorSpec, round_once, write_tensors
from olmo_core.errors import InputError


def test_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    tensors = {
        "b.weight": torch.randn(3, 5),
        "a.half": torch.randn(7).half(),
        "a.brain": torch.randn(2, 2).bfloat16(),
        "z.double": torch.randn(()).double(),
    }
    save_file(tensors, tmp_path / "library", metadata={"format": "pt"})
    source = TensorFile(tmp_path / "library")
    write_tensors(tmp_path / "ours", source.tensors, source.data)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "library").read_bytes()
    for name, tensor in load_file(tmp_path / "ours").items():
        assert torch.equal(tensor, tensors[name])
        np.testing.assert_array_equal(source.float64(name), tensor.double().numpy())


def test_rounding_is_done_once() -> None:
    # Just above the middle of two bf16 numbers, but on the middle after rounding to f32.
    value = np.array([1 + 2**-8 + 2**-30, 1 + 2**-8, -(1 + 3 * 2**-8), 1e39, 0.0, -0.0])
    bits = np.frombuffer(round_once(value, "BF16"), "<u2")
    assert bits[0] == 0x3F81  # up, as the value is above the middle; through f32 it went down
    assert bits[1] == 0x3F80  # the middle goes to even
    assert bits[2] == 0xBF82
    assert bits[3] == 0x7F80  # beyond the largest: infinity
    assert list(bits[4:]) == [0, 0x8000]
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    expected = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    found = np.frombuffer(round_once(values.astype(np.float64), "BF16"), "<u2")
    np.testing.assert_array_equal(found, expected)
    for dtype, kind in (("F16", np.float16), ("F32", np.float32), ("F64", np.float64)):
        assert round_once(value[:3], dtype) == value[:3].astype(kind).tobytes()


def test_not_a_number_stays_one() -> None:
    bits = np.frombuffer(round_once(np.array([np.nan, np.inf, -np.inf]), "BF16"), "<u2")
    values = torch.from_numpy(bits.astype(np.int32)).to(torch.int16).view(torch.bfloat16)
    assert torch.isnan(values[0])
    assert values[1:].tolist() == [float("inf"), float("-inf")]


@pytest.mark.parametrize("keep", [4, 20, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(10)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors: (truncated|not a whole)"):
        TensorFile(path)


def test_what_is_not_a_tensor_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((8).to_bytes(8, "little") + b"not json" + b"x" * 100)
    with pytest.raises(InputError, match="not a safetensors header"):
        TensorFile(path)
    with pytest.raises(InputError, match="no such file"):
        TensorFile(tmp_path / "absent")


def test_a_tensor_of_another_size_is_not_written(tmp_path: Path) -> None:
    spec = {"weight": TensorSpec(dtype="F32", shape=(2,))}
    with pytest.raises(ValueError, match="4 bytes, not 8"):
        write_tensors(tmp_path / "file", spec, lambda _: b"1234")
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_kept_for_transformers(tmp_path: Path) -> None:
    spec = {"weight": TensorSpec(dtype="U8", shape=(2,))}
    write_tensors(tmp_path / "file", spec, lambda _: b"ab", metadata={"made_by": "test"})
    with safe_open(tmp_path / "file", "pt") as file:
        assert file.metadata() == {"format": "pt", "made_by": "test"}
