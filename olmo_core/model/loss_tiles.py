"""Cross-entropy over a large vocabulary on a CPU in float32: tiles that stay near its caches.

Each tile holds the logits of some positions and part of the vocabulary. Exponentials are taken
while the tile is still near the cache, relative to each row's highest logit *in this tile*. The
softmax then lacks one factor per row and tile, known at the end of the row. That factor is
multiplied into the narrow operands of the next matrix products, never into the logits. Subtracting
the target likewise touches one row of the head, not the logits. The head's gradient is accumulated
transposed, tile by tile, written by the first piece of rows and added to by the later ones.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from olmo_core.config.compute import LOGITS_AT_ONCE
from olmo_core.model.matmul import (
    contiguous_transpose,
    matmul,
    matmul_add,
    matmul_prepacked,
    prepacked,
)

# Vocabulary rows per tile (measured, docs/performance.md). Not a power of two: the rows of a tile
# would all map to the same cache sets.
_WIDTH = 4192


class Sums(NamedTuple):
    """Sums over the labels that count, and gradients of cross-entropy plus z-loss."""

    cross_entropy: Tensor
    z_loss: Tensor
    grad_hidden: Tensor | None
    grad_weight: Tensor | None


def cross_entropy_in_tiles(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, z_loss: float, needs: tuple[bool, bool]
) -> Sums:
    """Return the sums of `olmo_core.model.loss.cross_entropy`.

    Args:
        hidden, weight, labels, z_loss: As there.
        needs: Whether to make the gradient of the states, and of the head.
    """
    rows = (labels >= 0).nonzero().squeeze(1)  # no work for positions that do not count
    states, labels = hidden[rows], labels[rows]
    target = weight[labels]
    picked = (states * target).sum(dim=1)
    sums = hidden.new_zeros(2)
    grad_states = target.neg_() if needs[0] else None
    at_once = max(1, LOGITS_AT_ONCE // len(weight))
    pieces = torch.arange(len(states)).tensor_split(max(1, -(-len(states) // at_once)))
    head = [prepacked(part, states[: len(pieces[0])]) for part in weight.split(_WIDTH)]
    transposed_grad: list[Tensor | None] = [None] * len(head)  # (d, width) each
    for part in pieces:
        if not len(part):
            continue
        span = slice(int(part[0]), int(part[-1]) + 1)
        tiles, factors, normaliser = _softmax(states[span], head, keep=any(needs))
        sums[0] += (normaliser - picked[span]).sum()
        sums[1] += z_loss * normaliser.square().sum()
        factors *= 1 + 2 * z_loss * normaliser
        if grad_states is not None:
            _add_grad_states(grad_states[span], tiles, factors, weight)
        if needs[1]:
            _add_grad_weight(transposed_grad, tiles, factors, states[span])
    grad_hidden = grad_weight = None
    if grad_states is not None:
        grad_hidden = torch.zeros_like(hidden).index_copy_(0, rows, grad_states)
    if needs[1]:
        grad_weight = _in_rows(transposed_grad, weight).index_add_(0, labels, states, alpha=-1)
    return Sums(sums[0], sums[1], grad_hidden, grad_weight)


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


def _add_grad_states(
    gradient: Tensor, tiles: Sequence[Tensor], factors: Tensor, weight: Tensor
) -> None:
    for tile, factor, part in zip(tiles, factors, weight.split(_WIDTH), strict=True):
        gradient.addcmul_(matmul(tile, part), factor.unsqueeze(1))


def _add_grad_weight(
    gradient: list[Tensor | None], tiles: Sequence[Tensor], factors: Tensor, states: Tensor
) -> None:
    states = contiguous_transpose(states)
    for index, (tile, factor) in enumerate(zip(tiles, factors, strict=True)):
        gradient[index] = matmul_add(states * factor, tile, gradient[index])


def _in_rows(transposed_gradient: Sequence[Tensor | None], weight: Tensor) -> Tensor:
    """Return the head's gradient in the head's layout; tiles that no row wrote are zero."""
    gradient = torch.empty_like(weight)
    for part, tile in zip(gradient.split(_WIDTH), transposed_gradient, strict=True):
        if tile is None:
            part.zero_()
        else:
            part.copy_(tile.T)
    return gradient
