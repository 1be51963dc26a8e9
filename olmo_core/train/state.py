"""Where a run stands: what a checkpoint holds beside its tensors. Free of torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1

WINDOW = 128  # steps before a value, all of which must be there
_SIGMA = 6.0
SCORED_STEPS = 10_000
_NO_SPREAD = 1e-10  # a standard deviation below it is rounding, and nothing a spike against it


@dataclass(kw_only=True)
class History:
    """The last losses and gradient norms of a run, and its spikes; a part of every checkpoint.

    Source of the rule: OLMo-core's StabilityMonitor. A value is a spike where it exceeds the mean
    of the last 128 by more than 6 standard deviations (of the population); a step is one where
    either value is. Its SpikeScore is the share of such steps.
    """

    steps: int = 0  # recorded in all
    losses: list[float] = field(default_factory=list[float])  # the last ones, nats per token
    norms: list[float] = field(default_factory=list[float])  # of their steps, before clipping
    # Which of the last 10,000 recorded steps were spikes, counted from 1; how many of all were.
    spikes: list[int] = field(default_factory=list[int])
    spikes_in_all: int = 0

    def record(self, loss: float, norm: float, *, keep: int = WINDOW) -> tuple[bool, bool]:
        """Take a step's values in; return whether its loss and its gradient norm are spikes.

        Args:
            loss: Nats per token.
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


@dataclass(kw_only=True)
class State:
    """Counters of a run. No random numbers are drawn after the first weights, so none are kept."""

    step: int = 0  # optimizer steps done
    tokens: int = 0  # seen in them
    origin: int = 0  # the step at which this run folder began: 0 unless it continues another run
    rewarmup_start: float | None = None  # moment of a fresh warm-up, see `Schedule`
    parent: dict[str, Any] | None = None  # the checkpoint that it started from, if from one
    joules: float = 0.0  # that its steps took, as far as something measured it
    history: History = field(default_factory=History)

    def to_dict(self, **more: Any) -> dict[str, Any]:
        """Return the content of `train.json`."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), **more}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "State":
        """Read `train.json`'s content; what else stands there is for other readers."""
        fields = {name: content[name] for name in ("step", "tokens", "origin", "rewarmup_start")}
        return cls(
            **fields,
            parent=content["parent"],
            joules=content.get("joules", 0.0),  # the first checkpoints of all lack these two
            history=History(**content.get("history", {})),
        )


def is_spike(value: float, before: Sequence[float]) -> bool:
    """Return whether a value lies far above the `WINDOW` values before it; never with fewer."""
    if len(before) < WINDOW:
        return False
    window = before[-WINDOW:]
    mean = math.fsum(window) / WINDOW
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in window) / WINDOW)
    return deviation >= _NO_SPREAD and value > mean + _SIGMA * deviation
