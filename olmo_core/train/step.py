"""One rank's part of a step: forward and backward over the microbatches of its batch."""

import contextlib

import torch
from torch import Tensor

from olmo_core.data.loader import Batch
from olmo_core.model.loss import cross_entropy
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.gradients import Gradients

IGNORED = -100
# What a step sums up over microbatches and ranks, in this order, behind the gradients.
# The first four are of the batch, the others of the rank: is it asked to stop, and at once; seconds
# that it waited for data; joules that it took; has the writing of a checkpoint failed.
SUMS: tuple[str, ...] = (
    "cross_entropy",
    "z_loss",
    "labels",
    "masked_instances",
    "stop",
    "stop_at_once",
    "waited_seconds",
    "joules",
    "save_failed",
)


def labels_of(batch: Batch) -> Tensor:
    """Targets (b, T): each position's next token; IGNORED at the end and where masked."""
    targets = torch.from_numpy(batch.input_ids).clone()
    if batch.label_mask is not None:
        targets[~torch.from_numpy(batch.label_mask)] = IGNORED
    targets[~torch.from_numpy(batch.instance_mask)] = IGNORED
    return torch.cat((targets[:, 1:], torch.full_like(targets[:, :1], IGNORED)), dim=1)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; a GPU fetches it from pinned memory while the host goes on."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def forward_backward(
    model: Transformer,
    batch: Batch,
    gradients: Gradients,
    *,
    microbatch_size: int,
    z_loss: float,
    compiled: bool = False,
) -> None:
    """Add the gradients of the *summed* loss, and the step's sums, to `gradients`.

    Nothing is divided here: the mean is taken once, over the global count of labels. `compiled` is
    about the loss; blocks are what `prepare` made them.
    """
    sums = gradients.sums
    device = sums.device
    ids = on_device(torch.from_numpy(batch.input_ids), device)
    labels = on_device(labels_of(batch), device)
    positions = None
    if batch.positions is not None:
        positions = on_device(torch.from_numpy(batch.positions), device)
    for part in range(0, len(ids), microbatch_size):
        gradients.accumulate(last=part + microbatch_size >= len(ids))
        rows = slice(part, part + microbatch_size)
        within = None if positions is None else positions[rows]
        hidden = model.hidden(ids[rows], within).flatten(0, 1)  # (b·T, d)
        loss, ce, z = cross_entropy(
            hidden,
            model.lm_head.weight,
            labels[rows].flatten(),
            z_loss=z_loss,
            compiled=compiled,
        )
        loss.backward()
        sums[0] += ce
        sums[1] += z
    sums[2] += (labels != IGNORED).sum()
    sums[3] += int((~batch.instance_mask).sum())


def autocast(precision: str | None, device: torch.device) -> contextlib.AbstractContextManager:
    """The arithmetic of `precision`: bfloat16 products with float32 weights, or float32 alone."""
    if precision == "amp_bf16":
        # no cache of cast weights: with sharded ones it gave wrong gradients (measured, precision
        # null), and it would keep a whole model in memory
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()
