"""How far the weights of two models lie apart, tensor by tensor and layer by layer.

Files are mapped into memory and read in blocks, so that models of any size take the same memory. Of
checkpoints, which are in torch's distributed format, a tensor is read at a time, by torch.
"""

import importlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olmo_core.checkpoint.layout import STATE
from olmo_core.checkpoint.tensor_file import NUMPY, TensorFile
from olmo_core.checkpoint.weight_files import weight_paths

BLOCK = 1 << 22  # values that are compared at one time: 32 MB of f64 per side
BF16 = "BF16"
_LAYER = re.compile(r"(?:^|\.)((?:blocks|layers|h)\.\d+)\.")


@dataclass(frozen=True, kw_only=True)
class WeightDifference:
    """The L2 norm of the first model's values, and of the second's minus the first's."""

    name: str  # of a tensor, of a layer, or "all"
    norm: float
    difference: float

    @property
    def relative(self) -> float | None:
        """Return the difference as a share of the norm.

        None: the first has no norm to compare with (zeros alone), or a value is not finite.
        """
        if self.difference == 0:
            return 0.0
        if not self.norm or not math.isfinite(self.norm) or not math.isfinite(self.difference):
            return None
        return self.difference / self.norm


@dataclass(frozen=True, kw_only=True)
class ComparedWeights:
    """Two models, as far as their tensors have the same names and shapes."""

    tensors: Sequence[WeightDifference]  # the furthest apart first
    layers: Sequence[WeightDifference]  # in the order of the model; what is in no layer by itself
    whole: WeightDifference
    not_compared: Sequence[str]  # tensors, each with the reason

    @property
    def equal(self) -> int:
        """Return how many tensors are equal."""
        return sum(each.difference == 0 for each in self.tensors)


def compare_weights(before: Path, after: Path) -> ComparedWeights:
    """Return how far the weights of two folders lie apart.

    Args:
        before: With `model.safetensors`, or shards and their index; or a checkpoint.
        after: The same.

    Raises:
        InputError: a file is missing, truncated, or no such file.
    """
    old, new = _tensors(before), _tensors(after)
    found: list[WeightDifference] = []
    left: list[str] = []
    for name in sorted(old.keys() | new.keys(), key=_natural):
        if name not in old or name not in new:
            left.append(f"{name}: only in the {'second' if name not in old else 'first'}")
            continue
        one, other = old[name], new[name]
        if one.blocks is None or other.blocks is None or one.shape != other.shape:
            left.append(f"{name}: {one} and {other}")
            continue
        squares, apart = _sums(one.blocks(), other.blocks())
        norm, difference = math.sqrt(squares), math.sqrt(apart)
        found.append(WeightDifference(name=name, norm=norm, difference=difference))
    return ComparedWeights(
        tensors=sorted(found, key=_by_size),
        layers=_by_layer(found),
        whole=_joined("all", found),
        not_compared=left,
    )


@dataclass(frozen=True)
class _Tensor:
    """A tensor; `blocks` reads its values in f64 (exact), and is None where it holds no floats."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[NDArray[np.float64]]] | None

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def _tensors(folder: Path) -> dict[str, _Tensor]:
    if (folder / STATE).is_dir():
        stored: Any = importlib.import_module("olmo_core.checkpoint.stored_weights")  # has torch
        return {
            name: _Tensor(dtype, shape, lambda read=read: iter([read()]))
            for name, (dtype, shape, read) in stored.stored_weights(folder / STATE).items()
        }
    found: dict[str, _Tensor] = {}
    for file in map(TensorFile, weight_paths(folder)):
        for name, spec in file.tensors.items():
            blocks = partial(_blocks, file, name) if spec.dtype in (*NUMPY, BF16) else None
            found[name] = _Tensor(spec.dtype, spec.shape, blocks)
    return found


def _sums(
    old: Iterator[NDArray[np.float64]], new: Iterator[NDArray[np.float64]]
) -> tuple[float, float]:
    """Return the sum of squares of the old values, and of the differences."""
    squares = apart = 0.0
    for a, b in _aligned(old, new):
        squares += float(np.dot(a, a))
        change = b - a
        apart += float(np.dot(change, change))
    return squares, apart


def _aligned(
    old: Iterator[NDArray[np.float64]], new: Iterator[NDArray[np.float64]]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield equal stretches of two tensors of equal shape, whatever blocks they come in."""
    a = b = np.empty(0)
    while True:
        a, b = (a if len(a) else next(old, a)), (b if len(b) else next(new, b))
        if not (size := min(len(a), len(b))):
            return
        yield a[:size], b[:size]
        a, b = a[size:], b[size:]


def _blocks(file: TensorFile, name: str) -> Iterator[NDArray[np.float64]]:
    """Yield a tensor's values in f64, a block after another."""
    dtype = file.tensors[name].dtype
    stored = np.frombuffer(file.data(name), "<u2" if dtype == BF16 else NUMPY[dtype])
    for start in range(0, len(stored), BLOCK):
        block = stored[start : start + BLOCK]
        if dtype == BF16:  # the upper half of an f32
            block = (block.astype("<u4") << 16).view("<f4")
        yield block.astype(np.float64)


def _by_layer(tensors: Sequence[WeightDifference]) -> list[WeightDifference]:
    layers: dict[str, list[WeightDifference]] = {}
    for each in tensors:
        match = _LAYER.search(each.name)
        layers.setdefault(match[1] if match else each.name, []).append(each)
    return [_joined(name, parts) for name, parts in layers.items()]


def _joined(name: str, parts: Sequence[WeightDifference]) -> WeightDifference:
    return WeightDifference(
        name=name,
        norm=math.hypot(*(part.norm for part in parts)),
        difference=math.hypot(*(part.difference for part in parts)),
    )


def _by_size(each: WeightDifference) -> tuple[float, str]:
    relative = each.relative
    return (-math.inf if relative is None else -relative, each.name)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which layer 2 comes before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]
