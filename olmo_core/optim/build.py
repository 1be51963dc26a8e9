"""Build AdamW with OLMo's parameter groups: the kind of a parameter decides whether it decays."""

from torch import nn

from olmo_core.config.optim import OptimizerConfig
from olmo_core.optim.adamw import AdamW, Group


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> AdamW:
    """Return AdamW over all parameters: a group that decays and one that does not, none empty.

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
    return AdamW(
        [Group(parameters=found, weight_decay=decay) for decay, found in groups.items() if found],
        learning_rate=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
    )
