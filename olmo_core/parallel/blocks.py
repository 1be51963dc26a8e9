"""Change how a model's blocks are computed: recomputed in the backward pass, and compiled."""

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from olmo_core.config.compute import ActivationCheckpointing, CompileConfig, recomputes
from olmo_core.errors import ConfigError
from olmo_core.model.linear import MATMUL_OPERATORS
from olmo_core.model.transformer import Transformer

# What `fine_grained` keeps: matrix products and attention. All else in a block (norms, rotations,
# activations, casts) is cheap to compute again and holds most of the memory.
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    *MATMUL_OPERATORS,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


def checkpoint_activations(model: Transformer, strategy: ActivationCheckpointing) -> None:
    """Let the layers that `strategy` selects discard their activations and recompute them.

    Recomputation does the same arithmetic and draws no random numbers, so gradients keep their
    bits. Parameter names do not change.
    """
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


def compile_blocks(model: Transformer, config: CompileConfig, device: torch.device) -> None:
    """Make every block compile itself on its first call, for fixed shapes.

    The whole model is never compiled: the embedding's backward would then use atomic additions, and
    no two runs would have the same bits (measured). Compiled by block, runs repeat to the last bit,
    with a cold or a warm cache. Parameter names do not change.

    Raises:
        ConfigError: torch has no such mode or backend, or the CPU backend lacks a C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if config.backend == "inductor" and device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile: on a CPU torch.compile needs a C++ compiler, and {compiler} is not found; "
            "install one, name it in CXX, or leave compile out"
        )
    # once more, with the compiler loaded: this also tells it whether to choose kernels by timing
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    for block in model.blocks:
        try:
            block.compile(
                dynamic=False, mode=config.mode, fullgraph=config.fullgraph, backend=config.backend
            )
        except RuntimeError as error:  # torch knows which there are
            raise ConfigError(f"compile: {error}") from None
