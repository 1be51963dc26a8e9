"""How a step is computed: its chunks, what is computed again for backward, which step is skipped.

Free of torch. The official keys that have values alone are in `placement.py`.
"""

from dataclasses import dataclass
from typing import Literal

from olmo_core.config.bounds import Bounded, above, at_least

DistributedStrategy = Literal["fsdp", "ddp", "single"]

ActivationCheckpointing = Literal[
    "whole_layer",
    "one_in_two",
    "one_in_three",
    "one_in_four",
    "one_in_eight",
    "two_in_three",
    "three_in_four",
    "fine_grained",
]

# Logits that the loss holds at one time: 512 MB of them in float32, 1 GB in bfloat16. Each chunk
# costs a GPU one more reading and writing of the head's gradient, so that few are better there.
LOGITS_AT_ONCE = 1 << 27
BF16_LOGITS_AT_ONCE = 1 << 29


def logits_at_once(width_bytes: int) -> int:
    """Return how many logits of this width the loss holds at one time."""
    return BF16_LOGITS_AT_ONCE if width_bytes < 4 else LOGITS_AT_ONCE


def recomputes(strategy: ActivationCheckpointing, layer: int) -> bool:
    """Whether a layer, counted from 0, is computed again for backward, whole or in parts.

    Source: allenai/OLMo `olmo/model.py`, `should_checkpoint_block`.
    """
    every = {"one_in_two": 2, "one_in_three": 3, "one_in_four": 4, "one_in_eight": 8}
    all_but = {"two_in_three": 3, "three_in_four": 4}
    if strategy in every:
        return layer % every[strategy] == 0
    return layer % all_but[strategy] != 0 if strategy in all_but else True


@dataclass(frozen=True, kw_only=True)
class SkipStepConfig(Bounded):
    """Skip a step whose loss or gradient norm leaves the last `window` ones by `sigma` deviations.

    Source: OLMo-core's `SkipStepOptimizer`.
    """

    window: int = at_least(2, default=128)  # steps
    sigma: float = above(0, default=6.0)  # standard deviations
