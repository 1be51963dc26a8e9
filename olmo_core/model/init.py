"""First weights of a model, by OLMo's two rules, the same for any device or number of ranks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from olmo_core.config.model import ModelConfig
from olmo_core.model.transformer import Transformer

_MITCHELL_CUTOFF = 3.0  # standard deviations


def copy(parameter: nn.Parameter, weight: Tensor) -> None:
    """Copy a weight into a parameter on any device."""
    with torch.no_grad():
        parameter.copy_(weight)


def initialise(
    model: Transformer, seed: int, fill: Callable[[nn.Parameter, Tensor], None] = copy
) -> None:
    """Fill every weight from `seed`, drawn on the CPU in the order of the parameters.

    `normal`: all matrices N(0, init_std), truncated at init_cutoff_factor deviations if given.
    `mitchell`: a truncated normal whose deviation falls with the width, and for the two
    projections back into the stream with the depth too. Norm weights are 1.

    One whole weight exists at a time; `fill` puts it into its parameter, or as much of it as the
    parameter holds.
    """
    config = model.config
    generator = torch.Generator(device="cpu").manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            fill(parameter, torch.ones(parameter.shape))
            continue
        if config.init_fn == "normal":
            std, cutoff = config.init_std, config.init_cutoff_factor
        else:
            std, cutoff = mitchell_std(config, name), _MITCHELL_CUTOFF
        fill(parameter, _normal(parameter.shape, std, cutoff, generator))


def mitchell_std(config: ModelConfig, name: str) -> float:
    """Standard deviation of the matrix `name` under `mitchell`."""
    if ".w_out." in name or ".w2." in name:
        layer = int(name.split(".")[1])
        width = config.d_model if ".w_out." in name else config.feed_forward_size
        return (2 * width * (layer + 1)) ** -0.5
    return config.d_model**-0.5


def _normal(
    shape: torch.Size, std: float, cutoff: float | None, generator: torch.Generator
) -> Tensor:
    weight = torch.empty(shape)
    if cutoff is None:
        return nn.init.normal_(weight, std=std, generator=generator)
    return nn.init.trunc_normal_(
        weight, std=std, a=-cutoff * std, b=cutoff * std, generator=generator
    )
