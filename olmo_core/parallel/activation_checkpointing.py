"""Activation checkpointing: discard a block's activations and recompute them in the backward pass.

Recomputation does the same arithmetic and draws no random numbers, so gradients keep their bits.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from olmo_core.config.compute import ActivationCheckpointing, recomputes
from olmo_core.model.transformer import Transformer

# What `fine_grained` keeps: matrix products and attention. All else in a block (norms, rotations,
# activations, casts) is cheap to compute again and holds most of the memory.
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.olmo_core.matmul.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


def checkpoint_activations(model: Transformer, strategy: ActivationCheckpointing) -> None:
    """Wrap the layers that `strategy` selects in place; parameter names do not change."""
    more: dict[str, Any] = {}
    if strategy == "fine_grained":
        more["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _KEPT)
    for layer, block in enumerate(model.blocks):
        if recomputes(strategy, layer):
            block.forward = _recomputing(block.forward, more)


def _recomputing(forward: Callable[..., Tensor], more: dict[str, Any]) -> Callable[..., Tensor]:
    # a function of ours: torch.compile passes over one of torch's own at the top of a graph
    def recomputing(*arguments: Tensor | None) -> Tensor:
        return checkpoint(  # pyright: ignore[reportReturnType]
            forward, *arguments, use_reentrant=False, preserve_rng_state=False, **more
        )

    return recomputing
