"""Prepare a model for training on some ranks; the order of the wrappers is decided here alone."""

from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.blocks import checkpoint_activations, compile_blocks
from olmo_core.parallel.gradients import Gradients, ReplicatedGradients
from olmo_core.parallel.parameters import materialise
from olmo_core.parallel.world import World


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
        return ReplicatedGradients(model.parameters(), sums=sums)
    from olmo_core.parallel.sharding import ShardedGradients, shard  # 1.5 s

    root = shard(model, config.fsdp, config.precision, world)
    materialise(model, world.device)
    return ShardedGradients(
        model, root, sums=sums, every_microbatch=config.core.reduce_every_microbatch
    )


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
