"""The figures of a step under OLMo's names, and the speed over the last steps."""

import math
import time
from collections import deque

from olmo_core.config.model import flops_per_token
from olmo_core.config.train import TrainConfig

_WINDOW_STEPS = 20


class Speed:
    """Throughput over a window of steps; pauses (checkpoints) are left out."""

    def __init__(self, config: TrainConfig, world_size: int) -> None:
        self._tokens = config.tokens_per_step / world_size  # of this device, a step
        self._flops = flops_per_token(config.model, config.sequence_length)
        self._times: deque[float] = deque(maxlen=_WINDOW_STEPS + 1)

    def pause(self) -> None:
        """Forget the window: what comes next is not a step."""
        self._times.clear()

    def step_done(self, total_tokens: int) -> dict[str, float]:
        """The throughput figures after a step; rates from the second step of a window on."""
        self._times.append(time.perf_counter())
        row = {
            "throughput/total_tokens": total_tokens,
            "throughput/total_training_Gflops": round(total_tokens * self._flops / 1e9, 3),
        }
        if len(self._times) > 1:
            rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
            row["throughput/device/batches_per_second"] = round(rate, 4)
            row["throughput/device/tokens_per_second"] = round(rate * self._tokens, 1)
        return row


def loss_metrics(cross_entropy: float, z_loss: float | None) -> dict[str, float]:
    """OLMo's names of the means over a step's labels (nats a token)."""
    row = {
        "train/CrossEntropyLoss": cross_entropy,
        "train/Perplexity": math.exp(min(cross_entropy, 700.0)),  # the largest that a float holds
    }
    if z_loss is not None:
        row["train/ZLoss"] = z_loss
    return row
