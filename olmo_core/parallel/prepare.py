"""Prepare a model for training on some ranks; the order of the wrappers is decided here alone."""

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from olmo_core.config.compute import ActivationCheckpointing, recomputes
from olmo_core.config.placement import CompileConfig
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.gradients import Gradients, ReplicatedGradients
from olmo_core.parallel.parameters import materialise
from olmo_core.parallel.world import World

# What `fine_grained` keeps: matrix products and attention. All else in a block (norms, rotations,
# activations, casts) is cheap to compute again and holds most of the memory.
_KEPT = {
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "olmo_core::matmul",
    "mkldnn::_linear_pointwise",  # `matmul` where it is not compiled
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "olmo_core::attend",
    "torch_attn::_varlen_attn",  # an operator once `model.documents` asked for it
}


def prepare(model: Transformer, config: TrainConfig, world: World, *, sums: int) -> Gradients:
    """Wrap the model in place; parameter names do not change.

    Args:
        model: On this rank's device or on the meta device. In the latter case its parameters, or
            this rank's shards of them, get memory here and are still to be filled.
        config: `activation_checkpointing`, `compile`, `distributed_strategy`, `fsdp`, `precision`,
            `core.reduce_every_microbatch`.
        world: The ranks; a single one computes the same whatever the strategy.
        sums: Number of figures per step that are reduced together with the gradients.

    Returns:
        The gradients of the model, all zero.

    Raises:
        ConfigError: this machine, or these ranks, cannot compute as configured.
    """
    if config.activation_checkpointing is not None:
        checkpoint_activations(model, config.activation_checkpointing)
    if config.compile is not None:
        compile_blocks(model, config.compile, world.device)
    if not is_sharded(config, world):
        materialise(model, world.device)
        return ReplicatedGradients(model.parameters(), sums=sums, ranks=world.size)
    from olmo_core.parallel.sharding import ShardedGradients, shard  # 1.5 s

    root = shard(model, config.fsdp, config.precision, world)
    materialise(model, world.device)
    return ShardedGradients(model, root, config, sums=sums)


def is_sharded(config: TrainConfig, world: World) -> bool:
    """Return whether each rank holds a part of the parameters instead of all of them.

    Raises:
        ConfigError: there are several ranks but no strategy for them.
    """
    if world.size == 1:
        return False
    if config.distributed_strategy not in ("fsdp", "ddp"):
        raise ConfigError(
            f"distributed_strategy: {config.distributed_strategy or 'null'}, but there are "
            f"{world.size} ranks; fsdp or ddp"
        )
    return config.distributed_strategy == "fsdp" and config.fsdp.sharding_strategy != "NO_SHARD"


def checkpoint_activations(model: Transformer, strategy: ActivationCheckpointing) -> None:
    """Let the layers that `strategy` selects discard their activations and recompute them.

    Recomputation does the same arithmetic and draws no random numbers, so gradients keep their
    bits. Parameter names do not change.
    """
    more: dict[str, Any] = {}
    if strategy == "fine_grained":
        more["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    for layer, block in enumerate(model.blocks):
        if recomputes(strategy, layer):
            block.forward = _recomputing(block.forward, more)


def _policy(_context: Any, operator: Any, *_arguments: Any, **_keywords: Any) -> CheckpointPolicy:
    kept = operator.name() in _KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


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
