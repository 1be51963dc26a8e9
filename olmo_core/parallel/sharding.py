"""FSDP2 and HSDP: each block, and the rest of the model, is sharded over a mesh of ranks.

Reductions are sums in float32. Nothing is divided by the number of ranks, since the loss is a sum
that is divided once by its global count.
"""

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from olmo_core.config.compute import FSDPConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.world import World

_HYBRID = ("HYBRID_SHARD", "_HYBRID_SHARD_ZERO2")
_KEEP_AFTER_FORWARD = ("SHARD_GRAD_OP", "_HYBRID_SHARD_ZERO2")  # ZeRO-2: gathered once a microbatch


def shard(
    model: Transformer, config: FSDPConfig, precision: str | None, world: World
) -> FSDPModule:
    """Shard the parameters in place along dimension 0; they become DTensors. Return the root
    module.

    Args:
        model: May be on the meta device.
        config: `fsdp`.
        precision: Of the training; `amp_bf16` gathers bfloat16 unless `fsdp.precision` is null.
        world: The ranks.

    Raises:
        ConfigError: the ranks do not divide into the configured replicas.
    """
    mesh = make_mesh(config, world)
    narrow = precision == "amp_bf16" and config.precision is not None
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if narrow else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # the rotary tables stay float32
    )
    reshard = config.sharding_strategy not in _KEEP_AFTER_FORWARD
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard)
    # The rest (embeddings, last norm, head) stays gathered from `hidden` on: the loss takes the
    # head's weight, and the backward begins there.
    root = fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    register_fsdp_forward_method(model, "hidden")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    return root


def make_mesh(config: FSDPConfig, world: World) -> DeviceMesh:
    """Return the ranks as (shards,), or as (replicas, shards) for hybrid strategies.

    By default one node is one replica.

    Raises:
        ConfigError: the ranks do not divide into the configured replicas.
    """
    kind = world.device.type
    if config.sharding_strategy not in _HYBRID:
        return init_device_mesh(kind, (world.size,), mesh_dim_names=("shard",))
    replicas = config.hybrid_sharding_num_model_replicas or world.nodes
    if world.size % replicas:
        raise ConfigError(
            f"fsdp.hybrid_sharding_num_model_replicas: {world.size} ranks are not "
            f"{replicas} equal replicas"
        )
    shape = (replicas, world.size // replicas)
    return init_device_mesh(kind, shape, mesh_dim_names=("replicate", "shard"))


def materialise(model: nn.Module, device: torch.device) -> None:
    """Allocate meta-device parameters on `device` without filling them; tied ones stay tied."""
    for parameter in model.parameters():
        if not parameter.is_meta:
            continue
        empty = nn.Parameter(torch.empty_like(parameter, device=device))
        torch.utils.swap_tensors(parameter, empty)


def held_rows(parameter: Tensor) -> tuple[int, Tensor]:
    """Return the first row of a parameter that this rank holds, and its rows from there on."""
    if not isinstance(parameter, DTensor):
        return 0, parameter
    (chunk,) = parameter.__create_chunk_list__()
    return chunk.offsets[0], parameter.to_local()


def fill(parameter: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into a parameter, or this rank's shard of it."""
    value: Tensor = whole
    if isinstance(parameter, DTensor):
        value = distribute_tensor(
            whole, parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    with torch.no_grad():
        parameter.copy_(value)


def gather(parameter: Tensor) -> Tensor:
    """Return a whole parameter on every rank; all ranks must call this together."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
