"""Build AdamW with OLMo's parameter groups: the kind of a parameter decides whether it decays."""

import torch
from torch import nn

from olmo_core.config.optim import OptimizerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW over all parameters; group 0 decays, group 1 does not. Empty groups are left
    out.

    The input embedding decays if `decay_embeddings` says so (a tied head with it), vectors (norms)
    if `decay_norm_and_bias` says so, all other matrices always.
    """
    groups: dict[float, list[nn.Parameter]] = {config.weight_decay: [], 0.0: []}
    for name, parameter in model.named_parameters():
        if name.startswith("embeddings."):
            decays = config.decay_embeddings
        else:
            decays = parameter.ndim > 1 or config.decay_norm_and_bias
        groups[config.weight_decay if decays else 0.0].append(parameter)
    return torch.optim.AdamW(
        [{"params": found, "weight_decay": decay} for decay, found in groups.items() if found],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
