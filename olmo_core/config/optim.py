"""The optimizer and the schedule, by the official `optimizer:` and `scheduler:` keys.

Free of torch. Defaults are OLMo's.
"""

from dataclasses import dataclass
from typing import Literal

from olmo_core.config.bounds import Bounded, above, at_least


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Bounded):
    """Official keys of `optimizer:` that this project implements (AdamW)."""

    name: Literal["adamw", "lionw"] = "lionw"
    # AdamW moves each weight by up to the rate in a step.
    learning_rate: float = above(0, at_most=1, default=1e-4)
    weight_decay: float = at_least(0, default=0.01)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = above(0, default=1e-5)  # a row without a gradient divides by it alone
    decay_norm_and_bias: bool = False
    decay_embeddings: bool = False
    selective_updates: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate * self.weight_decay >= 1:
            raise ValueError(
                f"weight_decay is {self.weight_decay}; times learning_rate {self.learning_rate} it "
                "is what a step takes from each weight: expected a product below 1"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; expected numbers from 0 to below 1")
        if self.name != "adamw":
            raise ValueError(f"name is {self.name!r} (written, or OLMo's default); only 'adamw'")
        if self.selective_updates:
            raise ValueError("selective_updates is True and would change what is learned")


SchedulerName = Literal[
    "cosine_with_warmup",
    "linear_with_warmup",
    "inverse_sqrt_with_warmup",
    "max_scheduler",
    "constant",
    "constant_with_warmup",
    "cosine_linear_envelope",
]


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig(Bounded):
    """Official keys of `scheduler:`. `t_*` and `grad_clip_warmup_steps` count `units`.

    The gradient's warm-up needs both of its keys; where either is null it is off, as in OLMo.
    """

    name: SchedulerName = "cosine_with_warmup"
    units: Literal["steps", "tokens"] = "steps"
    t_warmup: float = at_least(0, default=100)
    t_max: float | None = above(0, default=None)  # end of the decay; None: max_duration
    # floor of the rate, as a share of the peak
    alpha_f: float = at_least(0, at_most=1, default=0.1)
    # rate at t = 0; None: a tenth of the peak
    warmup_min_lr: float | None = at_least(0, default=None)
    grad_clip_warmup_steps: float | None = at_least(0, default=None)
    grad_clip_warmup_factor: float | None = above(0, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name in ("inverse_sqrt_with_warmup", "max_scheduler") and self.t_warmup <= 0:
            raise ValueError(
                f"t_warmup is {self.t_warmup}; {self.name} falls from its end, above 0"
            )
        if self.t_max is not None and self.name != "constant" and self.t_max <= self.t_warmup:
            raise ValueError(
                f"t_max is {self.t_max:g} {self.units}; the decay ends after the warm-up "
                f"(t_warmup: {self.t_warmup:g})"
            )

    def refuse_unreachable(self, *, peak: float, step: int, end: float | None) -> None:
        """Refuse what contradicts the run's other keys.

        Args:
            peak: `optimizer.learning_rate`.
            step: What one step counts, in `units`.
            end: Where the run ends, in `units`; None where only the data could tell.

        Raises:
            ValueError: names the key, what was found and what would be right.
        """
        if self.warmup_min_lr is not None and self.warmup_min_lr > peak:
            raise ValueError(
                f"scheduler.warmup_min_lr is {self.warmup_min_lr}, where the warm-up begins; "
                f"expected at most optimizer.learning_rate ({peak})"
            )
        of_the_rate = () if self.name == "constant" else ("t_warmup", "t_max")
        for key in (*of_the_rate, "grad_clip_warmup_steps"):
            value = getattr(self, key)
            if value is not None and 0 < value < step:
                raise ValueError(
                    f"scheduler.{key} is {value:g} {self.units} (written, or OLMo's default), less "
                    f"than one step ({step:,}); is scheduler.units meant to be steps?"
                )
        if of_the_rate and end is not None and self.t_warmup >= end:
            raise ValueError(
                f"scheduler.t_warmup is {self.t_warmup:g} {self.units}, and max_duration ends at "
                f"{end:g}: the rate would never reach its peak. stop_at ends a trial sooner and "
                "leaves the schedule as it is"
            )
