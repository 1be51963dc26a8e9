"""Read and write safetensors files one tensor at a time, with the same bytes for the same tensors.

The library's own writer wants every tensor in memory; a soup or an export of a large model must
not. The format is a little-endian header length, a JSON header and the tensors end to end
(https://huggingface.co/docs/safetensors); files written here are laid out as the library does.
"""

import json
import math
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.errors import InputError
from olmo_core.files import atomic_path

MAX_HEADER_BYTES = 100_000_000  # the library's own limit
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


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """What the header says of one tensor."""

    dtype: str  # safetensors' name: F32, BF16 …
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's data."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


class TensorFile:
    """A safetensors file mapped into memory; tensors are views of the file until they are copied.

    Raises:
        InputError: the file is missing, truncated or not safetensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as handle:
                head = handle.read(8)
                length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEADER_BYTES + 1
                if length > min(MAX_HEADER_BYTES, size - 8):
                    raise InputError(
                        f"{path}: not a whole safetensors file ({size} bytes; its header should "
                        f"take {length})"
                    )
                header = json.loads(handle.read(length))
                self._bytes = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; expected a model's weights") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: not a safetensors header: {error}") from None
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self.tensors: dict[str, TensorSpec] = {}
        self._offsets: dict[str, tuple[int, int]] = {}
        for name, entry in header.items():
            self._add(name, entry, 8 + length, size)

    def _add(self, name: str, entry: Mapping[str, Any], data_start: int, size: int) -> None:
        if entry["dtype"] not in ITEM_BYTES:
            raise InputError(f"{self.path}: {name}: unknown dtype {entry['dtype']!r}")
        spec = TensorSpec(dtype=entry["dtype"], shape=tuple(entry["shape"]))
        start, stop = (data_start + offset for offset in entry["data_offsets"])
        if stop - start != spec.size_bytes:
            raise InputError(
                f"{self.path}: {name}: {stop - start} bytes, but {spec.dtype} {list(spec.shape)} "
                f"takes {spec.size_bytes}"
            )
        if stop > size:
            raise InputError(
                f"{self.path}: truncated: {name} ends at byte {stop}, the file has {size}"
            )
        self.tensors[name] = spec
        self._offsets[name] = (start, stop)

    def data(self, name: str) -> memoryview:
        """The tensor's bytes, a view of the file."""
        start, stop = self._offsets[name]
        return memoryview(self._bytes)[start:stop]

    def float64(self, name: str) -> np.ndarray:
        """The tensor as f64 (exact), in its shape.

        Raises:
            InputError: it holds no floating-point numbers.
        """
        spec = self.tensors[name]
        if spec.dtype == "BF16":  # the upper half of an f32
            values = (np.frombuffer(self.data(name), "<u2").astype("<u4") << 16).view("<f4")
        elif spec.dtype in ("F64", "F32", "F16"):
            values = np.frombuffer(self.data(name), f"<f{ITEM_BYTES[spec.dtype]}")
        else:
            raise InputError(f"{self.path}: {name}: {spec.dtype} is no floating-point dtype")
        return values.astype(np.float64).reshape(spec.shape)


def round_once(values: np.ndarray, dtype: str) -> bytes:
    """The bytes of f64 values rounded to nearest even, once, to a safetensors float dtype."""
    if dtype == "BF16":
        return _bfloat16(values).tobytes()
    return values.astype(f"<f{ITEM_BYTES[dtype]}").tobytes()


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """f64 to bf16 (as u2): through f32 rounded to odd, as rounding to nearest twice is not once."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    wide = single.astype(np.float64)
    bits = single.view(np.uint32)
    inexact = (wide != values) & np.isfinite(values)
    # Towards zero where f32 went past the value, then mark the lost part in the lowest bit.
    past = inexact & (np.abs(wide) > np.abs(values))
    odd = np.where(inexact, (bits - past.astype(np.uint32)) | np.uint32(1), bits)
    rounded = odd + np.uint32(0x7FFF) + ((odd >> np.uint32(16)) & np.uint32(1))
    rounded = np.where(np.isnan(values), odd | np.uint32(0x400000), rounded)
    return (rounded >> np.uint32(16)).astype("<u2")


def write_tensors(
    path: Path,
    specs: Mapping[str, TensorSpec],
    data: Callable[[str], bytes | memoryview],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file atomically; `data(name)` is asked for one tensor after another.

    Args:
        path: The file; it appears only when it is whole.
        specs: Name, dtype and shape of every tensor.
        data: Gives the bytes of a tensor; called once each, in the order of the file.
        metadata: Texts for the header beside `format: pt`, which transformers demands.
    """
    order = sorted(specs, key=lambda name: (-ITEM_BYTES[specs[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
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
        handle.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            content = data(name)
            if len(content) != specs[name].size_bytes:
                raise ValueError(f"{name}: {len(content)} bytes, not {specs[name].size_bytes}")
            handle.write(content)
