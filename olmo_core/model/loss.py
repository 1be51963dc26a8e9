"""Cross-entropy and z-loss over a large vocabulary, in chunks, with a backward of its own.

The logits of a whole batch never exist: each chunk's logits become, in place, their own gradient,
and that is multiplied into the gradients of the states and of the head before the next chunk. It
costs no more arithmetic than the plain way and saves its memory and page faults.
"""

from typing import Any

import torch
from torch import Tensor

from olmo_core.model.loss_tiles import cross_entropy_in_tiles

# Logits that exist at one time: 16 MB of float32 on a CPU (measured: near its caches, still whole
# matrix products), 512 MB on a GPU.
_CHUNK_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 27}


def cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, z_loss: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the labels, not means: the caller divides by its global count.

    Args:
        hidden: Final states (N, d).
        weight: Output head (rows, d).
        labels: Target ids (N,), int64; negative where a position does not count.
        z_loss: Weight of the squared log-normaliser.

    Returns:
        Scalars in float32: cross-entropy plus weighted z-loss (differentiable), and, without a
        gradient, the cross-entropy and the weighted z-loss apart.
    """
    return _ChunkedCrossEntropy.apply(hidden, weight, labels, z_loss)  # pyright: ignore


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        if device == "cpu" and dtype is None and hidden.dtype == weight.dtype == torch.float32:
            needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
            ce, z, *gradients = cross_entropy_in_tiles(
                hidden, weight, labels, z_loss=z_loss, needs=needs
            )
            ctx.save_for_backward(*gradients)
            ctx.mark_non_differentiable(ce, z)
            return ce + z, ce, z
        h, w = (x if dtype is None else x.to(dtype) for x in (hidden, weight))
        grad_hidden = torch.empty_like(h) if ctx.needs_input_grad[0] else None
        # float32, so that summing over the chunks in a narrower type does not lose any
        grad_weight = (
            torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        )
        sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        rows = max(1, _CHUNK_LOGITS.get(device, _CHUNK_LOGITS["cuda"]) // weight.shape[0])
        with torch.autocast(device, enabled=False):
            for start in range(0, len(labels), rows):
                part = slice(start, start + rows)
                gradient = _chunk(h[part] @ w.T, labels[part], z_loss, sums).to(h.dtype)
                if grad_hidden is not None:
                    torch.mm(gradient, w, out=grad_hidden[part])
                if grad_weight is not None and h.dtype == torch.float32:
                    grad_weight.addmm_(gradient.T, h[part])
                elif grad_weight is not None:
                    grad_weight += gradient.T @ h[part]
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(hidden.dtype)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ce, z = sums[0], sums[1]
        ctx.mark_non_differentiable(ce, z)
        return ce + z, ce, z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = gradients[0]
        if scale.is_cpu and scale == 1:  # a training step's; on a GPU asking would wait for it
            return grad_hidden, grad_weight, None, None
        return (
            None if grad_hidden is None else grad_hidden * scale,
            None if grad_weight is None else grad_weight * scale,
            None,
            None,
        )


def _chunk(logits: Tensor, labels: Tensor, z_loss: float, sums: Tensor) -> Tensor:
    """Add a chunk's sums to `sums` (2,) and return the gradient of its logits, made in place."""
    logits = logits.float()
    counted = labels >= 0
    target = labels.clamp(min=0).unsqueeze(1)
    picked = logits.gather(1, target).squeeze(1)  # (n,)
    highest = logits.amax(dim=1)
    # one exponential a logit: the softmax's, whose row sums give the log-normaliser
    total = logits.sub_(highest.unsqueeze(1)).exp_().sum(dim=1)
    normaliser = total.log().add_(highest)
    sums[0] += ((normaliser - picked) * counted).sum()
    sums[1] += z_loss * (normaliser.square() * counted).sum()
    # d/dlogits: softmax * (1 + 2 z lse) - onehot, nothing where a position does not count
    logits.mul_(((1 + 2 * z_loss * normaliser) * counted / total).unsqueeze(1))
    return logits.scatter_add_(1, target, -counted.to(logits.dtype).unsqueeze(1))
