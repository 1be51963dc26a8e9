"""Cross-entropy and z-loss over a large vocabulary, in chunks, with a backward of its own.

The logits of a whole batch never exist at once: the gradient of a chunk's logits overwrites them
and is multiplied into the gradients of the states and of the head before the next chunk. This takes
no more arithmetic than the plain way and saves its memory and page faults.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from olmo_core.config.compute import LOGITS_AT_ONCE
from olmo_core.model.loss_tiles import cross_entropy_in_tiles


def cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, z_loss: float = 0.0, compiled: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums over the labels, not means: the caller divides by the global count.

    Args:
        hidden: Final states (N, d).
        weight: Output head (V, d).
        labels: Target ids (N,), int64; negative where a position does not count.
        z_loss: Weight of the squared log-normaliser.
        compiled: Compile the pass over a chunk's logits: two passes instead of eight.

    Returns:
        Scalars in float32: cross-entropy plus weighted z-loss (differentiable), and, without a
        gradient, the cross-entropy and the weighted z-loss apart.
    """
    return _ChunkedCrossEntropy.apply(hidden, weight, labels, z_loss, compiled)  # pyright: ignore


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float, compiled: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        if device == "cpu" and dtype is None and hidden.dtype == weight.dtype == torch.float32:
            ce, z, *gradients = cross_entropy_in_tiles(
                hidden, weight, labels, z_loss=z_loss, needs=needs
            )
        else:
            h, w = (x if dtype is None else x.to(dtype) for x in (hidden, weight))
            with torch.autocast(device, enabled=False):
                ce, z, grad_h, grad_w = _in_chunks(h, w, labels, z_loss, needs, compiled)
            gradients = (
                None if grad_h is None else grad_h.to(hidden.dtype),
                None if grad_w is None else grad_w.to(weight.dtype),
            )
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(ce, z)
        return ce + z, ce, z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = gradients[0]
        if not scale.is_cpu or scale != 1:  # 1 in training; asking a GPU would wait for it
            grad_hidden = None if grad_hidden is None else grad_hidden * scale
            grad_weight = None if grad_weight is None else grad_weight * scale
        return grad_hidden, grad_weight, None, None, None


def _in_chunks(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    z_loss: float,
    needs: tuple[bool, bool],
    compiled: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return both sums and the requested gradients: of the states, and of the head in float32."""
    counted, target = labels >= 0, labels.clamp(min=0)
    grad_hidden = torch.empty_like(hidden) if needs[0] else None
    # float32, so that summing over the chunks in a narrower type does not lose any
    grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
    sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
    pieces = max(1, -(-labels.numel() * weight.shape[0] // LOGITS_AT_ONCE))
    gradient_of = _compiled_gradient() if compiled else _gradient
    start = 0
    for rows in (len(piece) for piece in labels.tensor_split(min(pieces, max(1, len(labels))))):
        part = slice(start, start := start + rows)
        logits = hidden[part] @ weight.T
        gradient, both = gradient_of(logits, target[part], counted[part], z_loss)
        sums += both
        if grad_hidden is not None:
            torch.mm(gradient, weight, out=grad_hidden[part])
        if grad_weight is not None:
            grad_weight += gradient.T @ hidden[part]
    return sums[0], sums[1], grad_hidden, grad_weight


def _gradient(
    logits: Tensor, target: Tensor, counted: Tensor, z_loss: float
) -> tuple[Tensor, Tensor]:
    """Return the gradient of a chunk's logits (n, V), in their dtype, and the two sums."""
    wide, target = logits.float(), target.unsqueeze(1)
    picked = wide.gather(1, target).squeeze(1)  # (n,)
    highest = wide.amax(dim=1)
    # one exponential a logit: the softmax's, whose row sums give the log-normaliser
    wide = wide.sub_(highest.unsqueeze(1)).exp_()
    total = wide.sum(dim=1)
    normaliser = total.log() + highest
    sums = torch.stack(
        (
            ((normaliser - picked) * counted).sum(),
            z_loss * (normaliser.square() * counted).sum(),
        )
    )
    # d/dlogits: softmax * (1 + 2 z lse) - onehot, nothing where a position does not count
    wide = wide.mul_(((1 + 2 * z_loss * normaliser) * counted / total).unsqueeze(1))
    ones = counted.to(wide.dtype).unsqueeze(1)
    if torch.compiler.is_compiling():  # in the same pass, which a scatter would end
        columns = torch.arange(wide.shape[1], device=wide.device)
        wide = torch.where(columns == target, wide - ones, wide)
    else:
        wide.scatter_add_(1, target, -ones)
    return wide.to(logits.dtype), sums


@functools.cache
def _compiled_gradient() -> Callable[..., tuple[Tensor, Tensor]]:
    """Compile `_gradient` on first use: `torch.compile` takes a second to import."""
    return torch.compile(_gradient)
