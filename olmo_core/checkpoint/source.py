"""What training can start from, whatever its format; and the strict copy of it into a model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from olmo_core.checkpoint.state import MODEL, model_state, optimizer_state
from olmo_core.config.load import Tree, build
from olmo_core.config.model import ModelConfig
from olmo_core.config.official import drop_neutral, drop_without_meaning
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file
from olmo_core.parallel.sharding import fill


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


def require_same_model(where: str, theirs: ModelConfig, ours: ModelConfig) -> None:
    """Compare what a checkpoint's model computes with what the run's would.

    Args:
        where: The file that describes theirs.
        theirs: The checkpoint's.
        ours: The run's.

    Raises:
        InputError: they differ; names the keys.
    """
    there, here = theirs.function, ours.function
    changed = [key for key in here if there[key] != here[key]]
    if changed:
        what = ", ".join(
            f"model.{key} is {there[key]!r} there, {here[key]!r} in this run's configuration"
            for key in changed
        )
        raise InputError(f"{where}: another model: {what}")


def read_model(tree: Mapping[str, Any], where: str) -> ModelConfig:
    """Build the `model` section of a checkpoint's configuration, OLMo's or ours.

    Raises:
        InputError: there is none, or this project's model does not compute what it says.
    """
    section = tree.get("model")
    if not isinstance(section, Mapping):
        raise InputError(f"{where}: no section `model`")
    if not isinstance(section, Tree):
        section = Tree(cast(Mapping[str, Any], section), file=where)
    kept, _ = drop_without_meaning(section, "model.")
    try:
        return build(ModelConfig, drop_neutral(kept, "model."), where="model")
    except ConfigError as error:
        raise InputError(str(error)) from None


def describe_weights(paths: Iterable[Path]) -> dict[str, Any]:
    """The identity of a checkpoint whose files say nothing of theirs."""
    return {"weights_sha256": {path.name: sha256_file(path) for path in paths}}
