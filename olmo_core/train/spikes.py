"""Spikes of the loss and of the gradient norm, counted over the whole life of a run.

Source of the rule: OLMo-core's StabilityMonitor. A value is a spike where it exceeds the mean of
the last 128 by more than 6 standard deviations (of the population); a step is one where either
value is. Its SpikeScore is the share of such steps. Free of torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WINDOW = 128  # steps before a value, all of which must be there
_SIGMA = 6.0
SCORED_STEPS = 10_000
_NO_SPREAD = 1e-10  # a standard deviation below it is rounding, and nothing a spike against it


@dataclass(kw_only=True)
class History:
    """The last losses and gradient norms of a run, and its spikes; a part of every checkpoint.

    Attributes:
        steps: Steps recorded in all.
        losses: The last of them (nats per token), oldest first.
        norms: The gradient norms of the same steps, before clipping.
        spikes: Which of the last 10,000 recorded steps were spikes, counted from 1.
        spikes_in_all: How many of all recorded steps were.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list[float])
    norms: list[float] = field(default_factory=list[float])
    spikes: list[int] = field(default_factory=list[int])
    spikes_in_all: int = 0

    def record(self, loss: float, norm: float, *, keep: int = WINDOW) -> tuple[bool, bool]:
        """Take a step's values in; returns whether its loss and its gradient norm are spikes.

        Args:
            loss: Nats a token.
            norm: Of the gradient, before clipping.
            keep: How many values stay for the steps to come; at least `WINDOW`.
        """
        spike = is_spike(loss, self.losses), is_spike(norm, self.norms)
        self.steps += 1
        for values, value in ((self.losses, loss), (self.norms, norm)):
            values.append(value)
            del values[:-keep]
        if any(spike):
            self.spikes.append(self.steps)
            self.spikes_in_all += 1
        while self.spikes and self.spikes[0] <= self.steps - SCORED_STEPS:
            del self.spikes[0]
        return spike


def is_spike(value: float, before: Sequence[float]) -> bool:
    """Return whether a value lies far above the `WINDOW` values before it; never with fewer."""
    if len(before) < WINDOW:
        return False
    window = before[-WINDOW:]
    mean = math.fsum(window) / WINDOW
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in window) / WINDOW)
    return deviation >= _NO_SPREAD and value > mean + _SIGMA * deviation
