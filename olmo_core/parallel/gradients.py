"""The gradients of a step: summed over microbatches and ranks, reduced once, in float32.

A few sums over the batch (losses, counts) are reduced together with them. Every rank knows them
afterwards, and the mean is taken over the one global count.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist

from olmo_core.parallel.world import World

_ALIGNMENT = 64  # numbers: 256 bytes, so that kernels read the gradients as if they came first
_SLICE = 1 << 24  # numbers, at least: 64 MiB, few enough to send while others are computed


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
        # a few launches for all shards
        torch._foreach_mul_(self._parts(), factor)  # pyright: ignore[reportPrivateImportUsage]

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

    The sums lie before them, so that they go over the network with what is finished last.

    Args:
        parameters: In the order of the forward pass.
        sums: Number of sums.
        ranks: How many reduce together; one alone has no slices.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, sums: int, ranks: int = 1) -> None:
        parameters = list(parameters)
        size = sum(parameter.numel() for parameter in parameters)
        before = -(-sums // _ALIGNMENT) * _ALIGNMENT
        device = parameters[0].device
        self.buffer = torch.zeros(before + size, dtype=torch.float32, device=device)
        self.sums, self.values = self.buffer[before - sums : before], self.buffer[before:]
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.grad = self.values[start:end].view_as(parameter)
            start = end
        self._slices = _Slices(self.buffer, parameters) if ranks > 1 else None

    def zero(self) -> None:
        """Set the buffer to zero."""
        self.buffer.zero_()

    def accumulate(self, *, last: bool) -> None:
        """Let the last microbatch's backward pass send what it finishes; autograd adds it up."""
        if self._slices is not None:
            self._slices.listening = last

    def reduce(self, world: World) -> None:
        """Sum the buffer over the ranks, as far as that has not begun, and wait for all of it."""
        if self._slices is None:
            world.sum_(self.buffer)
        else:
            self._slices.finish()

    def norm(self) -> Tensor:
        """Return the L2 norm of the buffer."""
        return torch.linalg.vector_norm(self.values)

    def _parts(self) -> list[Tensor]:
        return [self.values]


class _Slices:
    """Sum a buffer over the ranks in slices, from its end, while the backward pass goes on.

    A slice is sent once its gradients are finished and the slice behind it is sent. Where slices
    begin follows from the parameters alone, and so does their order: all ranks agree on both, and a
    run repeats to the last bit. The order in which more than two ranks are added up may depend on
    the size of the slice.

    Args:
        buffer: Its end holds the gradients of the parameters.
        parameters: In their order there.

    Attributes:
        listening: Whether the backward pass that runs, or comes, is the last of its step.
    """

    def __init__(self, buffer: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        self._slices: list[Tensor] = []
        self._sizes: list[int] = []  # in parameters
        end = start = len(buffer)
        count = 0
        for parameter in reversed(parameters):
            finished = functools.partial(self._finished, len(self._slices))
            parameter.register_post_accumulate_grad_hook(finished)
            start -= parameter.numel()
            count += 1
            if end - start >= _SLICE:
                self._slices.append(buffer[start:end])
                self._sizes.append(count)
                end, count = start, 0
        self._slices.append(buffer[:end])
        self._sizes.append(count + 1)  # with what is no gradient, for which `finish` is called
        self.listening = False
        self._works: list[dist.Work | None] = []  # of the slices that have been sent
        self._missing = self._sizes.copy()

    def _finished(self, number: int, parameter: Tensor) -> None:
        if not self.listening:
            return
        self._missing[number] -= 1
        while self._missing[len(self._works)] == 0:
            self._send()

    def _send(self) -> None:
        part = self._slices[len(self._works)]
        self._works.append(dist.all_reduce(part, async_op=True))

    def finish(self) -> None:
        """Send what has not been sent, and wait for all: on a GPU, its stream alone does."""
        while len(self._works) < len(self._slices):
            self._send()
        for work in self._works:
            if work is not None:
                work.wait()
        self._works, self._missing = [], self._sizes.copy()
        self.listening = False
