"""Tensor files: the library reads what we write, and we stop at what is not whole."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from olmo_core.checkpoint.tensor_file import TensorFile, TensorSpec, write_tensors
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
        if tensor.dtype != torch.bfloat16:
            np.testing.assert_array_equal(source.float64(name), tensor.double().numpy())
    with pytest.raises(InputError, match=r"a\.brain: BF16; expected F64, F32, F16"):
        source.float64("a.brain")


@pytest.mark.parametrize(
    ("keep", "message"),
    [(4, "not a whole"), (20, "not a whole"), (-1, "truncated: weight ends at byte")],
)
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int, message: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(10)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=rf"model\.safetensors: {message}"):
        TensorFile(path)


def test_what_is_not_a_tensor_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((8).to_bytes(8, "little") + b"not json" + b"x" * 100)
    with pytest.raises(InputError, match="not a safetensors header"):
        TensorFile(path)
    with pytest.raises(InputError, match="no such file"):
        TensorFile(tmp_path / "absent")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [3], "data_offsets": [8, 16]}, "bad: 8 bytes, but F32 [3] "),
        ({"dtype": "F32", "shape": [3], "data_offsets": [8, 20]}, "truncated: bad ends at {20}"),
        ({"dtype": "X9", "shape": [3], "data_offsets": [8, 20]}, "unknown variant `X9`"),
        ({"dtype": "F32", "shape": [2]}, "missing field `data_offsets`"),
        ("F32", "expected struct TensorInfo"),
    ],
)
def test_a_header_that_does_not_fit_is_named(tmp_path: Path, entry: Any, message: str) -> None:
    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"a": "b"}, "good": good, "bad": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    message = message.replace("{20}", f"byte {8 + len(header) + 20}")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        TensorFile(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_tensor_of_another_size_is_not_written(tmp_path: Path) -> None:
    spec = {"weight": TensorSpec(dtype="F32", shape=(2,))}
    with pytest.raises(ValueError, match="4 bytes, not 8"):
        write_tensors(tmp_path / "file", spec, lambda _: b"1234")
    assert list(tmp_path.iterdir()) == []
