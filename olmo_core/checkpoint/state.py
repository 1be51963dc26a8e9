"""The tensors of a checkpoint: one flat mapping of names, whatever shards them.

`model.<parameter>` and `optim.<parameter>.{exp_avg,exp_avg_sq,step}`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from olmo_core.checkpoint.tensor_file import Stored
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError, listed
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.parameters import fill, materialise

MODEL, OPTIM = "model.", "optim."

Moments = Mapping[nn.Parameter, Mapping[str, Tensor]]


def state_of(model: nn.Module, moments: Moments | None) -> dict[str, Tensor]:
    """Return the tensors as they are: writing to them writes to the model and the optimizer.

    A tied head is there once.

    Args:
        model: Its parameters.
        moments: `AdamW.state`; None: the parameters alone.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    state = {MODEL + name: parameter.detach() for parameter, name in names.items()}
    if moments is not None:
        for parameter, values in moments.items():
            for key, value in values.items():
                state[f"{OPTIM}{names[parameter]}.{key}"] = value
    return state


def require_same(
    where: object, shapes: Mapping[str, tuple[int, ...] | None], state: Mapping[str, Tensor]
) -> None:
    """Compare names and shapes of what is stored (None: no tensor) with those wanted.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape.
    """
    for title, names in (
        ("missing", state.keys() - shapes.keys()),
        ("unexpected", shapes.keys() - state.keys()),
    ):
        if names:
            raise InputError(f"{where}: {len(names)} {title} tensors: {listed(names)}")
    for name, tensor in state.items():
        shape = shapes[name]
        if shape != tuple(tensor.shape):
            found = "no tensor" if shape is None else shape
            raise InputError(f"{where}: {name} is {found}, the model's {tuple(tensor.shape)}")


def copy_strictly(where: object, stored: Mapping[str, Stored], state: Mapping[str, Tensor]) -> None:
    """Copy what is stored into the tensors of the same names, one in memory at a time.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape; nothing has been copied.
    """
    require_same(where, {name: entry.shape for name, entry in stored.items()}, state)
    for name, tensor in state.items():
        fill(tensor, stored[name].read())


def assemble(
    config: ModelConfig, stored: Mapping[str, Stored], path: Path, device: torch.device
) -> Transformer:
    """Return a model of the weights in the file at `path`, in f32 on `device`, to evaluate.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape.
    """
    with torch.device("meta"):  # no time spent on weights that are about to be replaced
        model = Transformer(config)
    materialise(model, device)
    copy_strictly(path, stored, dict(model.named_parameters()))
    return model.eval()
