"""One rank's part of a step: forward and backward, and what the host reads of it."""

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from olmo_core.data.loader import Batch
from olmo_core.model.documents import Documents, cu_doc_lens_of
from olmo_core.model.loss import cross_entropy, one
from olmo_core.model.transformer import Transformer
from olmo_core.monitor.straggler import LossTime
from olmo_core.parallel.gradients import Gradients

IGNORED = -100
# What a step sums up over microbatches and ranks, in this order.
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
# What the host reads of a step; after it, of several ranks, the loss time of each (`count_sums`).
READ = ("loss", "norm", "skipped", *SUMS)


def count_sums(ranks: int) -> int:
    """Return how many sums a step has: those of `SUMS`, and of several ranks one for each."""
    return len(SUMS) + (ranks if ranks > 1 else 0)


def labels_of(batch: Batch) -> Tensor:
    """Return targets (b, T): each position's next token; IGNORED at the end and where masked."""
    targets = torch.from_numpy(batch.input_ids).clone()
    if batch.label_mask is not None:
        targets[~torch.from_numpy(batch.label_mask)] = IGNORED
    targets[~torch.from_numpy(batch.instance_mask)] = IGNORED
    return torch.cat((targets[:, 1:], torch.full_like(targets[:, :1], IGNORED)), dim=1)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor there; a GPU fetches it from pinned memory while the host goes on."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def documents_of(
    batch: Batch, rows: slice, device: torch.device, *, compiled: bool
) -> Documents | None:
    """Return where a microbatch's documents lie; None where the batch does not tell them apart.

    Args:
        batch: Its instances `rows` are the microbatch.
        rows: A slice of them.
        device: Where the model is.
        compiled: The model's blocks are; one graph is then for any number of documents.
    """
    if batch.positions is None:
        return None
    positions = torch.from_numpy(batch.positions[rows])
    cu_doc_lens = on_device(cu_doc_lens_of(positions), device)
    if compiled:
        torch._dynamo.mark_dynamic(cu_doc_lens, 0)
    return Documents(positions=on_device(positions, device), cu_doc_lens=cu_doc_lens)


def forward_backward(
    model: Transformer,
    batch: Batch,
    gradients: Gradients,
    *,
    microbatch_size: int,
    z_loss: float,
    compiled: bool = False,
    loss_time: LossTime | None = None,
) -> None:
    """Add the gradients of the *summed* loss, and the step's sums, to `gradients`.

    Nothing is divided here: the mean is taken once, over the global count of labels.

    Args:
        model: As `prepare` leaves it.
        batch: This rank's share of the step's.
        gradients: The model's.
        microbatch_size: Instances.
        z_loss: Weight of the squared log-normaliser.
        compiled: Whether blocks and loss are compiled.
        loss_time: Measures the loss of each microbatch.
    """
    sums = gradients.sums
    device = sums.device
    ids = on_device(torch.from_numpy(batch.input_ids), device)
    labels = on_device(labels_of(batch), device)
    measured = contextlib.nullcontext if loss_time is None else loss_time.measured

    def criterion(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        with measured():
            return cross_entropy(hidden, weight, labels, z_loss=z_loss, compiled=compiled)

    for part in range(0, len(ids), microbatch_size):
        gradients.accumulate(last=part + microbatch_size >= len(ids))
        rows = slice(part, part + microbatch_size)
        documents = documents_of(batch, rows, device, compiled=compiled)
        loss, ce, z = model.loss(criterion, ids[rows], labels[rows], documents)
        loss.backward(one(device))
        sums[0] += ce
        sums[1] += z
    sums[2] += (labels != IGNORED).sum()
    sums[3] += int((~batch.instance_mask).sum())


def autocast(precision: str | None, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the arithmetic of `precision`: bfloat16 products of float32 weights, or float32."""
    if precision == "amp_bf16":
        # no cache of cast weights: with sharded ones it gave wrong gradients (measured, precision
        # null), and it would keep a whole model in memory
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def lag_of(device: torch.device) -> int:
    """Return how many steps may be queued while the values of one are not read.

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
        self._waiting: deque[tuple[dict[str, Any], Tensor, torch.cuda.Event | None]] = deque()

    def put(self, values: Tensor, **known: Any) -> None:
        """Start to copy a step's values to the host; they must not be changed afterwards.

        Args:
            values: Those of `READ`, one-dimensional, and after them the loss time of each rank.
            known: What the host knows of the step as it queues it.
        """
        arrived = None
        if values.is_cuda:
            host = torch.empty_like(values, device="cpu", pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._waiting.append((known, values, arrived))

    def take(self, *, wait: bool = False) -> Iterator[dict[str, Any]]:
        """Yield what is known of the steps that are due, oldest first; all of them if `wait`."""
        while len(self._waiting) > (0 if wait else self._lag):
            known, values, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            told = values.tolist()
            read = dict(zip(READ, told[: len(READ)], strict=True))
            yield known | read | {"loss_seconds": told[len(READ) :]}
