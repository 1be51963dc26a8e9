"""FSDP2 and HSDP: each block, and the rest of the model, is sharded over a mesh of ranks.

Reductions are sums in float32. Nothing is divided by the number of ranks, since the loss is a sum
that is divided once by its global count. Importing FSDP2 takes 1.5 s: only sharded training does.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from olmo_core.config.compute import FSDPConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.gradients import Gradients
from olmo_core.parallel.world import World

_HYBRID = ("HYBRID_SHARD", "_HYBRID_SHARD_ZERO2")
_KEEP_AFTER_FORWARD = ("SHARD_GRAD_OP", "_HYBRID_SHARD_ZERO2")  # ZeRO-2: gathered once a microbatch


def shard(
    model: Transformer, config: FSDPConfig, precision: str | None, world: World
) -> FSDPModule:
    """Shard the parameters in place along dimension 0 (as DTensors); return the root module.

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


class ShardedGradients(Gradients):
    """Hold one shard of each gradient per rank, reduced during the last microbatch's backward pass.

    Between the microbatches of a step each rank keeps the unsharded sum in float32, which takes as
    much memory as the whole model. Reducing with every microbatch avoids that; replicas are summed
    once per step even then.

    Args:
        model: Whose parameters they belong to.
        root: The same model, as `shard` returns it.
        sums: Number of sums.
        every_microbatch: Reduce over the shards with each microbatch.
    """

    def __init__(
        self, model: Transformer, root: FSDPModule, *, sums: int, every_microbatch: bool
    ) -> None:
        self._root, self._parameters = root, list(model.parameters())
        self._every_microbatch = every_microbatch
        mesh = cast(DTensor, self._parameters[0]).device_mesh
        # replicas hold the same shards: a norm is summed over the shards of one
        self._shard_group = mesh.get_group(mesh.ndim - 1)
        self.sums = torch.zeros(sums, dtype=torch.float32, device=self._parameters[0].device)

    def zero(self) -> None:
        """Set this rank's shards and sums to zero."""
        for parameter in self._parameters:
            parameter.grad = None
        self.sums.zero_()

    def accumulate(self, *, last: bool) -> None:
        """Reduce with the last microbatch only, or with each if so configured."""
        self._root.set_requires_gradient_sync(last or self._every_microbatch)
        self._root.set_requires_all_reduce(last)

    def norm(self) -> Tensor:
        """Return the L2 norm over all shards."""
        squared = nn.utils.get_total_norm(self._parts()).square()
        dist.all_reduce(squared, group=self._shard_group)
        return squared.sqrt()

    def _parts(self) -> list[Tensor]:
        found = [parameter.grad for parameter in self._parameters]
        return [gradient.to_local() for gradient in found if isinstance(gradient, DTensor)]
