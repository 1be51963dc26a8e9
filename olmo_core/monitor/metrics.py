"""The figures of a step under OLMo's names (OLMo-core's if only that has them)."""

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from olmo_core.config.model import flops_per_token
from olmo_core.config.train import TrainConfig
from olmo_core.energy import JOULES_PER_KWH
from olmo_core.train.state import SCORED_STEPS, WINDOW, History


class Speed:
    """Throughput over a window of steps; pauses (checkpoints) are left out.

    Args:
        config: The run.
        world_size: Number of devices that share a step.
        peak_flops: Peak FLOP/s of one of them; None if not known.
    """

    def __init__(self, config: TrainConfig, world_size: int, peak_flops: float | None) -> None:
        self._tokens = config.tokens_per_step / world_size  # of this device, a step
        self._flops = flops_per_token(config.model, config.sequence_length)
        self._peak_flops = peak_flops
        self._times: deque[float] = deque(maxlen=config.speed_monitor.window_size + 1)

    def pause(self) -> None:
        """Clear the window before something that is not a step."""
        self._times.clear()

    def step_done(self, total_tokens: int, waited_seconds: float) -> dict[str, float]:
        """Return the throughput figures after a step; rates start with the second step of a window.

        Args:
            total_tokens: Tokens of the run so far.
            waited_seconds: Time this step waited for data, averaged over the ranks.
        """
        times = self._times
        times.append(time.perf_counter())
        gflops = total_tokens * self._flops / 1e9
        row = {
            "throughput/total_tokens": total_tokens,
            "throughput/total_training_Gflops": round(gflops, 3),
            "throughput/total_training_log_Gflops": round(math.log(gflops), 4),
            "throughput/device/data loading (s)": round(waited_seconds, 6),
        }
        if len(times) > 1:
            rate = (len(times) - 1) / (times[-1] - times[0])
            share = waited_seconds / (times[-1] - times[-2])
            row["throughput/device/data loading (%)"] = round(100 * share, 3)
            row["throughput/device/batches_per_second"] = round(rate, 4)
            row["throughput/device/tokens_per_second"] = round(rate * self._tokens, 1)
            if self._peak_flops is not None:
                used = rate * self._tokens * self._flops / self._peak_flops
                row["throughput/device/MFU"] = round(100 * used, 3)
        return row


def spike_metrics(history: History, spike: tuple[bool, bool]) -> dict[str, float]:
    """Return whether the step recorded last is a spike, and the share of such steps."""
    row: dict[str, float] = {"spike/loss": int(spike[0]), "spike/grad_norm": int(spike[1])}
    if history.steps >= SCORED_STEPS:
        row["spike/SpikeScore"] = len(history.spikes) / SCORED_STEPS
    if history.steps >= WINDOW:
        row["spike/SpikeScore (total)"] = history.spikes_in_all / history.steps
    return row


def loss_metrics(sums: Mapping[str, float], *, z_loss: bool) -> dict[str, float]:
    """Return means over a step's labels (nats per token), from the sums over them.

    A step without labels has no loss.
    """
    row = {"train/masked_instances": sums["masked_instances"]}
    labels = sums["labels"]
    if not labels:
        return row
    cross_entropy = sums["cross_entropy"] / labels
    row["train/CrossEntropyLoss"] = cross_entropy
    row["train/Perplexity"] = math.exp(min(cross_entropy, 700.0))  # the largest that a float holds
    if z_loss:
        row["train/ZLoss"] = sums["z_loss"] / labels
    return row


def update_metrics(known: Mapping[str, float], *, groups: int, skips: bool) -> dict[str, float]:
    """Return gradient norm, rate per group and, where updates may be skipped, if this one was."""
    rates = {f"optim/learning_rate_group{i}": known["learning_rate"] for i in range(groups)}
    skipped = {"optim/step_skipped": known["skipped"]} if skips else {}
    return {"optim/total_grad_norm": known["norm"], **rates, **skipped}


def step_status(
    known: Mapping[str, Any],
    speed: Mapping[str, float],
    *,
    loss: float | None,
    last_step: int,
    world_size: int,
    url: str | None,
) -> dict[str, Any]:
    """Return what status.json says of a step; `speed` is that of this device."""
    pace = speed.get("throughput/device/tokens_per_second", 0.0) * world_size
    rate = speed.get("throughput/device/batches_per_second", 0.0)
    figures = {
        "step": known["step"],
        "loss": loss,
        "learning_rate": known["learning_rate"],
        "tokens_per_second": round(pace, 1) or None,
        "remaining_seconds": round((last_step - known["step"]) / rate, 1) if rate else None,
        "wandb_url": url,
    }
    said = "no labels" if loss is None else f"loss {loss:.3f}"
    return {"message": f"{said}, {pace:,.0f} tokens/s", "figures": figures}


def device_metrics(device: torch.device, joules: float | None) -> dict[str, float]:
    """Return the run's energy, if measured, and a GPU's peak memory (MB) since the last row."""
    row = {} if joules is None else {"energy/total_kWh": joules / JOULES_PER_KWH}
    if device.type == "cuda":
        row["System/Peak GPU Memory (MB)"] = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
        torch.cuda.reset_peak_memory_stats(device)
    return row
