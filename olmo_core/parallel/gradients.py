"""All gradients of a replicated model in one float32 buffer, so that a step takes one reduction.

A few sums of the batch (losses, counts) ride behind the gradients in the same buffer: every rank
knows them after the one all-reduce, and the mean is taken over the one global count.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from olmo_core.parallel.world import World


class Gradients:
    """Owns the `.grad` of every parameter: views of `buffer`, in the order of the parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, sums: int) -> None:
        parameters = list(parameters)
        size = sum(parameter.numel() for parameter in parameters)
        device = parameters[0].device
        self.buffer = torch.zeros(size + sums, dtype=torch.float32, device=device)
        self.values, self.sums = self.buffer[:size], self.buffer[size:]
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.grad = self.values[start:end].view_as(parameter)
            start = end

    def zero(self) -> None:
        """Begin a step."""
        self.buffer.zero_()

    def accumulate(self, *, last: bool) -> None:
        """Say before each microbatch whether it is the last of its step."""

    def reduce(self, world: World) -> None:
        """Add gradients and sums up over the ranks."""
        world.sum_(self.buffer)

    def normalise(self, count: float, max_norm: float | None) -> Tensor:
        """Divide by the global count and clip to `max_norm` (global L2), in one pass.

        Returns:
            The norm before clipping, a scalar.
        """
        norm = torch.linalg.vector_norm(self.values) / count
        scale = torch.ones_like(norm)
        if max_norm is not None:
            scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # OLMo's rule, epsilon included
        self.values.mul_(scale / count)
        return norm
