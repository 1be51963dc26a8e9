"""The gradients of a step: summed over microbatches and ranks, reduced once, in float32.

A few sums over the batch (losses, counts) are reduced together with them. Every rank knows them
afterwards, and the mean is taken over the one global count.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from olmo_core.model.transformer import Transformer
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

    @abstractmethod
    def reduce(self, world: World) -> None:
        """Sum gradients and `sums` over the ranks."""

    @abstractmethod
    def norm(self) -> Tensor:
        """Return the global L2 norm of all gradients, a scalar equal on every rank."""

    @abstractmethod
    def scale_(self, factor: Tensor) -> None:
        """Multiply all gradients by a scalar."""

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

    def scale_(self, factor: Tensor) -> None:
        """Multiply the buffer."""
        self.values.mul_(factor)


class ShardedGradients(Gradients):
    """Hold one shard of each gradient per rank, reduced during the last microbatch's backward pass.

    Between the microbatches of a step each rank keeps the unsharded sum in float32, which takes as
    much memory as the whole model. Reducing with every microbatch avoids that; replicas are summed
    once per step even then.

    Args:
        model: Whose parameters they belong to.
        root: The same model, as `olmo_core.parallel.sharding.shard` returns it.
        sums: Number of sums.
        every_microbatch: Reduce over the shards with each microbatch.
    """

    def __init__(
        self, model: Transformer, root: FSDPModule, *, sums: int, every_microbatch: bool
    ) -> None:
        self._root, self._parameters = root, list(model.parameters())
        self._every_microbatch = every_microbatch
        mesh = cast(DTensor, self._parameters[0]).device_mesh
        # replicas hold the same shards: a norm is summed over the shards of one
        self._shard_group = mesh.get_group(mesh.ndim - 1)
        self.sums = torch.zeros(sums, dtype=torch.float32, device=self._parameters[0].device)

    def zero(self) -> None:
        """Set this rank's shards and sums to zero."""
        for parameter in self._parameters:
            parameter.grad = None
        self.sums.zero_()

    def accumulate(self, *, last: bool) -> None:
        """Reduce with the last microbatch only, or with each if so configured."""
        self._root.set_requires_gradient_sync(last or self._every_microbatch)
        self._root.set_requires_all_reduce(last)

    def reduce(self, world: World) -> None:
        """Sum `sums` over the ranks; the gradients are reduced already."""
        world.sum_(self.sums)

    def norm(self) -> Tensor:
        """Return the L2 norm over all shards."""
        squared = nn.utils.get_total_norm(self._shards()).square()
        dist.all_reduce(squared, group=self._shard_group)
        return squared.sqrt()

    def scale_(self, factor: Tensor) -> None:
        """Multiply this rank's shards."""
        for shard in self._shards():
            shard.mul_(factor)

    def _shards(self) -> list[Tensor]:
        found = [parameter.grad for parameter in self._parameters]
        return [gradient.to_local() for gradient in found if isinstance(gradient, DTensor)]
