"""The optimizer and the schedule, by the official `optimizer:` and `scheduler:` keys.

Free of torch. Defaults are OLMo's.
"""

from dataclasses import dataclass
from typing import Literal

from olmo_core.config.bounds import above, at_least


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Official keys of `optimizer:` that this project implements (AdamW)."""

    name: Literal["adamw", "lionw"] = "lionw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-5
    decay_norm_and_bias: bool = False
    decay_embeddings: bool = False
    selective_updates: bool = False

    def __post_init__(self) -> None:
        at_least(self, 0, "learning_rate", "weight_decay", "eps")
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
class SchedulerConfig:
    """Official keys of `scheduler:`. `t_*` and `grad_clip_warmup_steps` count `units`."""

    name: SchedulerName = "cosine_with_warmup"
    units: Literal["steps", "tokens"] = "steps"
    t_warmup: float = 100
    t_max: float | None = None  # end of the decay; None: max_duration
    alpha_f: float = 0.1  # floor of the rate, as a share of the peak
    warmup_min_lr: float | None = None  # rate at t = 0; None: a tenth of the peak
    grad_clip_warmup_steps: float | None = None
    grad_clip_warmup_factor: float | None = None

    def __post_init__(self) -> None:
        at_least(self, 0, "t_warmup", "alpha_f", "warmup_min_lr", "grad_clip_warmup_steps")
        above(self, 0, "t_max", "grad_clip_warmup_factor")
        if (self.grad_clip_warmup_steps is None) != (self.grad_clip_warmup_factor is None):
            raise ValueError("grad_clip_warmup_steps and grad_clip_warmup_factor go together")
        if self.name in ("inverse_sqrt_with_warmup", "max_scheduler") and self.t_warmup <= 0:
            raise ValueError(
                f"t_warmup is {self.t_warmup}; {self.name} falls from its end, above 0"
            )
