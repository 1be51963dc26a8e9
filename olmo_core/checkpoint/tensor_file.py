"""Read and write safetensors files one tensor at a time, with the same bytes for the same tensors.

The library's own writer wants every tensor in memory; a soup or an export of a large model must
not. The format is a little-endian header length, a JSON header and the tensors end to end
(https://huggingface.co/docs/safetensors); files written here are laid out as the library does.
"""

import json
import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from olmo_core.errors import InputError
from olmo_core.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}  # numpy's names of its floats


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """What the header says of one tensor."""

    dtype: str  # safetensors' name: F32, BF16 …
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Return the bytes of the tensor's data."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class TensorFile:
    """A safetensors file mapped into memory; tensors are views of the file until they are copied.

    Raises:
        InputError: the file is missing, truncated or not safetensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: dict[str, TensorSpec] = {}
        self._offsets: dict[str, slice] = {}
        try:
            # opened first, since the library calls every file missing that it cannot open
            with path.open("rb") as file, safe_open(path, framework="np"):
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; expected a model's weights") from None
        except SafetensorError as error:
            raise InputError(f"{path}: {_what_is_wrong(path, error)}") from None
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] not in ITEM_BYTES:
                raise InputError(f"{path}: {name}: unknown dtype {entry['dtype']!r}")
            self.tensors[name] = TensorSpec(dtype=entry["dtype"], shape=tuple(entry["shape"]))
            self._offsets[name] = slice(*(8 + length + at for at in entry["data_offsets"]))

    def data(self, name: str) -> memoryview:
        """Return the tensor's bytes, a view of the file."""
        return memoryview(self._bytes)[self._offsets[name]]

    def require_numpy(self, name: str) -> None:
        """Refuse a tensor that holds no floating-point numbers that numpy has.

        Raises:
            InputError: names file, tensor and dtype.
        """
        if (dtype := self.tensors[name].dtype) not in NUMPY:
            raise InputError(f"{self.path}: {name}: {dtype}; expected {', '.join(NUMPY)}")

    def float64(self, name: str) -> np.ndarray:
        """Return the tensor as f64 (exact), in its shape.

        Raises:
            InputError: it holds no floating-point numbers that numpy has.
        """
        self.require_numpy(name)
        spec = self.tensors[name]
        return np.frombuffer(self.data(name), NUMPY[spec.dtype]).astype("f8").reshape(spec.shape)


def _what_is_wrong(path: Path, reason: SafetensorError) -> str:
    """Return why the library refuses a file, with the first tensor that does not fit, if any."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")  # of the tensors
        try:
            header = json.loads(file.read(start - 8)) if start <= size else {}
        except (ValueError, RecursionError) as error:
            return f"not a safetensors header: {error}"
    try:
        header.pop("__metadata__", None)
        for name, entry in header.items():
            spec = TensorSpec(dtype=entry["dtype"], shape=tuple(entry["shape"]))
            begin, end = entry["data_offsets"]
            if end - begin != spec.size_bytes:
                return f"{name}: {end - begin} bytes, but {spec} takes {spec.size_bytes}"
            if start + end > size:
                return f"truncated: {name} ends at byte {start + end}, the file has {size}"
    except (AttributeError, LookupError, TypeError, ValueError):
        pass  # entries that are none: the library's reason
    return f"not a whole safetensors file ({size} bytes): {reason}"


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file: its shape now, its values when asked."""

    shape: tuple[int, ...]
    read: "Callable[[], Tensor]"


def open_safetensors(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file.

    Raises:
        InputError: it is missing, truncated, or not such a file.
    """

    def read(name: str) -> "Tensor":
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    tensors = TensorFile(path).tensors
    return {name: Stored(spec.shape, partial(read, name)) for name, spec in tensors.items()}


def write_tensors(
    path: Path, specs: Mapping[str, TensorSpec], data: Callable[[str], bytes | memoryview]
) -> None:
    """Write a safetensors file atomically; `data(name)` is asked for one tensor after another.

    Args:
        path: The file; it appears only when it is whole.
        specs: Name, dtype and shape of every tensor.
        data: Gives the bytes of a tensor; called once each, in the order of the file.
    """
    order = sorted(specs, key=lambda name: (-ITEM_BYTES[specs[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers demands it
    offset = 0
    for name in order:
        stop = offset + specs[name].size_bytes
        header[name] = {
            "dtype": specs[name].dtype,
            "shape": list(specs[name].shape),
            "data_offsets": [offset, stop],
        }
        offset = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start on a multiple of 8
    with atomic_path(path) as beside, beside.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            content = data(name)
            if len(content) != specs[name].size_bytes:
                raise ValueError(f"{name}: {len(content)} bytes, not {specs[name].size_bytes}")
            handle.write(content)
