"""The gradients of a step: summed over microbatches and ranks, reduced once, in float32.

A few sums over the batch (losses, counts) are reduced together with them. Every rank knows them
afterwards, and the mean is taken over the one global count.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from olmo_core.parallel.world import World


class Gradients(ABC):
    """Own the `.grad` of every parameter.

    Attributes:
        sums: Figures summed beside the gradients, float32, on the same device.
    """

    sums: Tensor

    @abstractmethod
    def zero(self) -> None:
        """Set all gradients and sums to zero before a step."""

    @abstractmethod
    def accumulate(self, *, last: bool) -> None:
        """Announce the next microbatch and whether it is the last of its step."""

    def reduce(self, world: World) -> None:
        """Sum gradients and `sums` over the ranks, as far as `accumulate` has not."""
        world.sum_(self.sums)

    @abstractmethod
    def norm(self) -> Tensor:
        """Return the global L2 norm of all gradients, a scalar equal on every rank."""

    def scale_(self, factor: Tensor) -> None:
        """Multiply all gradients by a scalar."""
        for part in self._parts():
            part.mul_(factor)

    @abstractmethod
    def _parts(self) -> list[Tensor]:
        """Return the tensors that hold what this rank has of the gradients."""

    def normalise(self, count: Tensor, max_norm: float | None) -> Tensor:
        """Divide by the global count and clip to `max_norm` (global L2), in one pass.

        The count is a scalar on the gradients' device, so the host waits for nothing.

        Returns:
            The norm before clipping, a scalar.
        """
        norm = self.norm() / count
        scale = torch.ones_like(norm)
        if max_norm is not None:
            scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # OLMo's rule, epsilon included
        self.scale_(scale / count)
        return norm


class ReplicatedGradients(Gradients):
    """Hold all gradients on every rank, as views of one buffer in the order of the parameters.

    The sums lie at the end of the buffer, so that a step takes one all-reduce.
    """

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
        """Set the buffer to zero."""
        self.buffer.zero_()

    def accumulate(self, *, last: bool) -> None:
        """Do nothing: autograd adds to the buffer."""

    def reduce(self, world: World) -> None:
        """Sum the buffer over the ranks."""
        world.sum_(self.buffer)

    def norm(self) -> Tensor:
        """Return the L2 norm of the buffer."""
        return torch.linalg.vector_norm(self.values)

    def _parts(self) -> list[Tensor]:
        return [self.values]
