"""Cross-entropy and z-loss over a large vocabulary, in chunks, with a backward of its own.

The logits of a whole batch never exist at once: the gradient of a chunk's logits overwrites them
and is multiplied into the gradients of the states and of the head before the next chunk. This takes
no more arithmetic than the plain way and saves its memory and page faults.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from olmo_core.config.compute import LOGITS_AT_ONCE, logits_at_once
from olmo_core.model.linear import matmul, matmul_add, matmul_prepacked, prepacked

# Vocabulary rows per tile (measured, docs/performance.md). Not a power of two: the rows of a tile
# would all map to the same cache sets.
_WIDTH = 4192

# Over the labels that count: cross-entropy, z-loss; their gradients of the states and of the head.
Sums = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


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


@functools.cache
def one(device: torch.device) -> Tensor:
    """Return the 1 with which a loss's backward begins: `loss.backward(one(loss.device))`.

    It is recognised by identity, since comparing its value would make the host wait for a GPU. With
    any other the gradients, which the forward has made, are multiplied by it.
    """
    return torch.ones((), device=device)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float, compiled: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        if device == "cpu" and dtype is None and hidden.dtype == weight.dtype == torch.float32:
            ce, z, *gradients = _in_tiles(hidden, weight, labels, z_loss, needs)
        else:
            h, w = (x if dtype is None else x.to(dtype) for x in (hidden, weight))
            with torch.autocast(device, enabled=False):
                ce, z, *gradients = _in_chunks(h, w, labels, z_loss, needs, compiled)
        pairs = zip(gradients, (hidden, weight), strict=True)
        ctx.save_for_backward(*(None if grad is None else grad.to(x.dtype) for grad, x in pairs))
        ctx.mark_non_differentiable(ce, z)
        return ce + z, ce, z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale, saved = gradients[0], ctx.saved_tensors
        if scale is not one(scale.device):
            saved = (None if gradient is None else gradient * scale for gradient in saved)
        return *saved, None, None, None


def _in_chunks(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    z_loss: float,
    needs: tuple[bool, bool],
    compiled: bool,
) -> Sums:
    """Return both sums and the requested gradients: of the states, and of the head in float32."""
    counted, target = labels >= 0, labels.clamp(min=0)
    grad_hidden = torch.empty_like(hidden) if needs[0] else None
    grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
    sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
    at_once = logits_at_once(hidden.element_size())
    # a power of two, as most microbatches are: all chunks have one shape, or all but the last
    height = 1 << max(0, (at_once // len(weight)).bit_length() - 1)
    gradient_of = _compiled_gradient() if compiled else _gradient
    begin = 0
    for part in hidden.split(height):
        rows = slice(begin, begin := begin + len(part))
        gradient, both = gradient_of(part @ weight.T, target[rows], counted[rows], z_loss)
        sums += both
        if grad_hidden is not None:
            torch.mm(gradient, weight, out=grad_hidden[rows])
        if grad_weight is not None:
            grad_weight = matmul_add(gradient.T, part, grad_weight)
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
    return torch.compile(_gradient, dynamic=False)


def _in_tiles(
    hidden: Tensor, weight: Tensor, labels: Tensor, z_loss: float, needs: tuple[bool, bool]
) -> Sums:
    """Return what `_in_chunks` returns, on a CPU in float32, in tiles that stay near its caches.

    Each tile holds the logits of some positions and part of the vocabulary. Exponentials are taken
    while the tile is still near the cache, relative to each row's highest logit *in this tile*. The
    softmax then lacks one factor per row and tile, known at the end of the row. That factor is
    multiplied into the narrow operands of the next matrix products, never into the logits.
    Subtracting the target likewise touches one row of the head, not the logits. The head's gradient
    is accumulated transposed, tile by tile, written by the first piece of rows and added to by the
    later ones.
    """
    rows = (labels >= 0).nonzero().squeeze(1)  # no work for positions that do not count
    states, labels = hidden[rows], labels[rows]
    target = weight[labels]
    picked = (states * target).sum(dim=1)
    sums = hidden.new_zeros(2)
    grad_states = target.neg_() if needs[0] else None
    at_once = max(1, LOGITS_AT_ONCE // len(weight))
    pieces = states.tensor_split(max(1, -(-len(states) // at_once)))
    parts = weight.split(_WIDTH)
    head = [prepacked(part, pieces[0]) for part in parts]
    transposed_grad: list[Tensor | None] = [None] * len(head)  # (d, width) each
    begin = 0
    for piece in pieces:
        span = slice(begin, begin := begin + len(piece))
        tiles, factors, normaliser = _softmax(piece, head, keep=any(needs))
        sums[0] += (normaliser - picked[span]).sum()
        sums[1] += z_loss * normaliser.square().sum()
        factors *= 1 + 2 * z_loss * normaliser
        if grad_states is not None:
            for tile, factor, part in zip(tiles, factors, parts, strict=True):
                grad_states[span].addcmul_(matmul(tile, part), factor.unsqueeze(1))
        if needs[1]:
            transposed = piece.T.contiguous()
            for i, (tile, factor) in enumerate(zip(tiles, factors, strict=True)):
                transposed_grad[i] = matmul_add(transposed * factor, tile, transposed_grad[i])
    grad_hidden = grad_weight = None
    if grad_states is not None:
        grad_hidden = torch.zeros_like(hidden).index_copy_(0, rows, grad_states)
    if needs[1]:
        grad_weight = torch.cat([tile.T for tile in transposed_grad if tile is not None])
        grad_weight.index_add_(0, labels, states, alpha=-1)
    return sums[0], sums[1], grad_hidden, grad_weight


def _softmax(
    states: Tensor, head: Sequence[Tensor], *, keep: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return exponentials per tile (n, width), the factors (tiles, n) that turn them into a
    softmax, and the log-normaliser (n,). `head` holds one `prepacked` part per tile.
    """
    # Powers of two: exp2 is three times as fast as exp here, and as exact.
    scaled = states * math.log2(math.e)
    tiles: list[Tensor] = []
    highest = states.new_empty(len(head), len(states))
    totals = torch.empty_like(highest)
    for part, top, total in zip(head, highest, totals, strict=True):
        tile = matmul_prepacked(scaled, part)
        torch.amax(tile, dim=1, out=top)
        torch.sum(tile.sub_(top.unsqueeze(1)).exp2_(), dim=1, out=total)
        if keep:
            tiles.append(tile)
    top = highest.amax(dim=0)
    factors = highest.sub_(top).exp2_()
    total = totals.mul_(factors).sum(dim=0)
    return tiles, factors.div_(total), total.log2().add_(top).mul_(math.log(2))
