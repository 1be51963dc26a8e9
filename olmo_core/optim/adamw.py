"""AdamW by torch's fused kernel, with OLMo's parameter groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from olmo_core.config.optim import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share a weight decay (a factor of the learning rate, as in the paper)."""

    parameters: Sequence[nn.Parameter]
    weight_decay: float


class AdamW:
    """Update parameters in place from their `.grad` (Loshchilov & Hutter, arXiv 1711.05101).

    Every bit is that of `torch.optim.AdamW(fused=True)`. Making one of those imports torch's
    compiler, which is 2.5 s of a job's start (torch 2.13); this class does not.

    Attributes:
        learning_rate: Of the next step.
        state: By parameter its moments `exp_avg` and `exp_avg_sq`, and `step`, the number of its
            updates: float32 scalars on the parameter's device. All are zero before the first step.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.groups = groups
        self.learning_rate, self.betas, self.eps = learning_rate, betas, eps
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {
            parameter: {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for group in groups
            for parameter in group.parameters
        }

    @torch.no_grad()
    @torch.profiler.record_function("AdamW.step")
    def step(self, left_out: Tensor | None = None) -> None:
        """Update every parameter that has a gradient.

        Args:
            left_out: A scalar on the device; where it is 1, no parameter, moment or count changes.
                The host need not know it.
        """
        for group in self.groups:
            gradients = {p: p.grad for p in group.parameters if p.grad is not None}
            states = [self.state[parameter] for parameter in gradients]
            adamw(
                list[Tensor](gradients),
                list(gradients.values()),
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],  # AMSGrad's
                [state["step"] for state in states],
                fused=True,
                found_inf=left_out,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=self.learning_rate,
                weight_decay=group.weight_decay,
                eps=self.eps,
                maximize=False,
            )


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
