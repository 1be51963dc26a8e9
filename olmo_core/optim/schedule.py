"""The learning rate and the gradient bound at any moment, by OLMo's formulas. Free of torch.

A moment `t` is the number of steps, or of tokens, done *including* the step to be taken: OLMo
advances its counters first, so the first step has t = 1 (or one batch of tokens). Source of the
curves: allenai/OLMo `olmo/optim.py`.
"""

import math
from dataclasses import dataclass

from olmo_core.config.duration import BEGINNING, Duration, Origin
from olmo_core.config.optim import SchedulerConfig, SchedulerName
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError

# Curves that go on as they are, whenever the run ends.
ENDLESS: tuple[SchedulerName, ...] = (
    "constant",
    "constant_with_warmup",
    "inverse_sqrt_with_warmup",
)

_DEFAULT_WARMUP_START = 0.1  # share of the peak at which OLMo's warm-up begins by default


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate and gradient bound of a run whose last step is known."""

    config: SchedulerConfig
    peak: float  # `optimizer.learning_rate`
    end: float  # of the decay, in the units of `config`
    # Moment of a second warm-up: the optimizer's moments were dropped in the middle of a run.
    rewarmup_start: float | None = None
    origin: Origin = BEGINNING  # where the batch size took effect
    tokens_per_step: int = 1  # from there on

    def moment(self, step: int) -> int:
        """Return the moment after `step` steps of the run."""
        if self.config.units == "steps":
            return step
        return self.origin.tokens_at(step, self.tokens_per_step)

    def learning_rate(self, t: float) -> float:
        """Return the learning rate of the step that brings the run to moment `t`."""
        start, length = self.rewarmup_start, self.config.t_warmup
        if start is not None and t < start + length:
            return self._curve(start + length) * (t - start) / length
        return self._curve(t)

    def _curve(self, t: float) -> float:
        name, warmup = self.config.name, self.config.t_warmup
        if name == "constant":
            return self.peak
        if t < warmup:
            start = self.config.warmup_min_lr
            if start is None:
                start = self.peak * _DEFAULT_WARMUP_START
            return start + (self.peak - start) * t / warmup
        if name == "constant_with_warmup":
            return self.peak
        if name == "inverse_sqrt_with_warmup":
            return self._inverse_sqrt(t)
        if name == "max_scheduler":
            return max(self._decay("cosine_with_warmup", t), self._inverse_sqrt(t))
        return self._decay(name, t)

    def _inverse_sqrt(self, t: float) -> float:
        return self.peak * math.sqrt(self.config.t_warmup / t)

    def _decay(self, name: SchedulerName, t: float) -> float:
        """Return the rate after the warm-up: from the peak down to the floor at `end`, constant
        afterwards.
        """
        floor = self.peak * self.config.alpha_f
        if t >= self.end:
            return floor
        done = (t - self.config.t_warmup) / (self.end - self.config.t_warmup)
        if name == "linear_with_warmup":
            return self.peak - (self.peak - floor) * done
        cosine = (1 + math.cos(math.pi * done)) / 2
        if name == "cosine_linear_envelope":
            cosine *= 1 - done
        return floor + (self.peak - floor) * cosine

    def max_grad_norm(self, bound: float | None, t: float) -> float | None:
        """Return the gradient bound in force at moment `t`, given `max_grad_norm`.

        OLMo sets the bound of the next step after it has clipped, so pass the moment *before* the
        step. Its very first step takes the plain bound.
        """
        steps, factor = self.config.grad_clip_warmup_steps, self.config.grad_clip_warmup_factor
        if bound is None or steps is None or factor is None or t == 0 or t > steps:
            return bound
        return bound * factor


def build_schedule(
    config: TrainConfig, steps: int | None, origin: Origin, rewarmup_start: float | None = None
) -> Schedule:
    """Return the schedule of a run that ends its `max_duration` after `steps` steps.

    Raises:
        ConfigError: a value of `scheduler` contradicts the run's length, now that the steps of an
            epoch are known.
    """
    in_tokens = config.scheduler.units == "tokens"
    per_step = config.tokens_per_step if in_tokens else 1
    end = None
    if steps is not None:
        duration = Duration.parse(config.max_duration)
        end = origin.tokens_at(steps, per_step) if in_tokens else steps
        end = duration.value if in_tokens and duration.unit == "tokens" else end
    peak = config.optimizer.learning_rate
    try:
        config.scheduler.refuse_unreachable(peak=peak, step=per_step, end=end)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Schedule(
        config=config.scheduler,
        peak=peak,
        end=config.scheduler.t_max or end or 0,  # 0: an endless curve does not use it
        rewarmup_start=rewarmup_start,
        origin=origin,
        tokens_per_step=config.tokens_per_step,
    )
