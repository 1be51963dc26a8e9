"""What the host reads of a step: at once on a CPU, one step later on a GPU."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What the host knows of a step as it queues it."""

    number: int
    tokens: int  # of the run, this step's included
    learning_rate: float


def lag_of(device: torch.device) -> int:
    """How many steps may be queued while the values of one are not read.

    One is enough for a GPU never to wait for the host; a CPU has nothing queued.
    """
    return 1 if device.type == "cuda" else 0


class Readings:
    """Values of steps on their way to the host, in the order of the steps.

    Args:
        lag: So many of the latest steps are not waited for.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._waiting: deque[tuple[StepRecord, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, step: StepRecord, values: Tensor) -> None:
        """Start to copy a step's values (n,) to the host; they must not be changed afterwards."""
        arrived = None
        if values.is_cuda:
            host = torch.empty_like(values, device="cpu", pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._waiting.append((step, values, arrived))

    def take(self, *, wait: bool = False) -> Iterator[tuple[StepRecord, list[float]]]:
        """The steps that are due, oldest first; all of them if `wait`."""
        while len(self._waiting) > (0 if wait else self._lag):
            step, values, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            yield step, values.tolist()
