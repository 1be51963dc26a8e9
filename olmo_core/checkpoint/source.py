"""What training can start from, whatever its format; and the strict copy of it into a model."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from olmo_core.checkpoint.state import MODEL, model_state, optimizer_state
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import sha256_file
from olmo_core.parallel.sharding import fill

# What tensors' shapes do not show, and a model computes by.
_COMPUTED_BY = (
    "n_heads",
    "kv_heads",
    "norm_after",
    "layer_norm_type",
    "layer_norm_eps",
    "attention_layer_norm",
    "clip_qkv",
    "rope_theta",
)


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where the training stood that wrote a checkpoint.

    Attributes:
        step: Optimizer steps done.
        tokens: Tokens seen in them.
        order: How its data were ordered, as far as its format tells: keys of
            `Loader.order_spec()`.
        examples: Instances seen of its epoch, where its format tells; else `step` says it.
    """

    step: int
    tokens: int
    order: Mapping[str, Any]
    examples: int | None = None


class Source(Protocol):
    """A checkpoint, verified as far as its format allows, that a run can start from."""

    @property
    def location(self) -> str:
        """Where it lies."""
        ...

    @property
    def has_training_state(self) -> bool:
        """Whether it holds moments and a position; else weights alone."""
        ...

    def position(self) -> Position:
        """Where its training stood; called only where `has_training_state`."""
        ...

    def identify(self) -> dict[str, Any]:
        """What tells it from other checkpoints, wherever it lies."""
        ...

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        """Copy the weights and, unless None, the moments.

        Raises:
            InputError: a tensor is missing, unexpected or of another shape.
        """
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file: its shape now, its values when asked."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def copy_strictly(
    where: str,
    stored: Mapping[str, Stored],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    """Copy tensors under the names of `olmo_core.checkpoint.state`, one in memory at a time.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape; nothing has been copied.
    """
    state = model_state(model)
    if optimizer is not None:
        state |= optimizer_state(model, optimizer)
    require_same(where, {name: entry.shape for name, entry in stored.items()}, state)
    for name, tensor in state.items():
        fill(tensor, stored[name].read())


def require_same(
    where: str, shapes: Mapping[str, tuple[int, ...] | None], state: Mapping[str, Tensor]
) -> None:
    """Compare names and shapes (None: of no known shape) of what is stored with those wanted."""
    for title, names in (
        ("lacks", state.keys() - shapes.keys()),
        ("has, unexpectedly,", shapes.keys() - state.keys()),
    ):
        if names:
            some = ", ".join(sorted(names)[:5])
            raise InputError(f"{where}: the checkpoint {title} {len(names)} tensors: {some}")
    for name, tensor in state.items():
        shape = shapes[name]
        if shape is not None and shape != tuple(tensor.shape):
            raise InputError(f"{where}: {name} is {shape}, the model's {tuple(tensor.shape)}")


def weights_alone(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """A model's tensors under the names that a checkpoint has for them."""
    return {MODEL + name: stored for name, stored in tensors.items()}


def require_same_model(where: str, theirs: Mapping[str, Any], ours: ModelConfig) -> None:
    """Compare what a model computes by, as far as `theirs` says it, with the run's `model:`.

    Raises:
        InputError: they differ; names the key.
    """
    for key in _COMPUTED_BY:
        if key in theirs and _number(theirs[key]) != getattr(ours, key):
            raise InputError(
                f"{where}: {key} is {theirs[key]!r} there, model.{key} {getattr(ours, key)!r} here"
            )


def _number(value: Any) -> Any:
    """YAML reads 1e-6 as a text."""
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def describe_weights(paths: Iterable[Path]) -> dict[str, Any]:
    """The identity of a checkpoint whose files say nothing of theirs."""
    return {"weights_sha256": {path.name: sha256_file(path) for path in paths}}
