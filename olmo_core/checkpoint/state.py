"""The tensors of a checkpoint: one flat mapping of names, whatever shards them.

`model.<parameter>` and `optim.<parameter>.{exp_avg,exp_avg_sq,step}`.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

MODEL, OPTIM = "model.", "optim."


@contextlib.contextmanager
def single_process_is_meant() -> Iterator[None]:
    """Silence what torch's checkpoint module says of every save and load without a group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters (a tied head once), as they are: writing to them writes to the model."""
    return {MODEL + name: parameter.detach() for name, parameter in model.named_parameters()}


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments by parameter name; made (zero) where no step has been taken yet."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in _moments(optimizer, parameter).items():
                state[f"{OPTIM}{names[parameter]}.{key}"] = value
    return state


def _moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    moments = optimizer.state[parameter]
    if not moments:
        # as AdamW itself would make them at its first step
        moments["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        moments["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        moments["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return moments
