"""FSDP2 and HSDP: blocks, embeddings, head, and the rest, are each sharded over a mesh of ranks.

Reductions are sums in float32. Nothing is divided by the number of ranks, since the loss is a sum
that is divided once by its global count. Importing FSDP2 takes 1.5 s: only sharded training does.
"""

from typing import Any, cast

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

from olmo_core.config.placement import FSDPConfig
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.gradients import Gradients
from olmo_core.parallel.world import World

_HYBRID = ("HYBRID_SHARD", "_HYBRID_SHARD_ZERO2")


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
    reshard = not config.keeps_gathered
    units: list[nn.Module] = list(model.blocks)
    if not model.config.weight_tying:  # a tied table is in the rest: both ends of a step need it
        units += [model.embeddings, model.lm_head]
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard)
    # the rest stays gathered from the forward on: the backward begins with it
    root = fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    register_fsdp_forward_method(model, "loss")
    register_fsdp_forward_method(model.lm_head, "loss")  # does nothing to a tied one
    for table in (model.embeddings, model.lm_head):
        if isinstance(table, FSDPModule):
            table.set_unshard_in_backward(False)  # neither's backward takes its weight
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
    if config.sharding_strategy not in _HYBRID:  # the world's own group
        return init_device_mesh(kind, (world.size,), mesh_dim_names=("shard",))
    replicas = config.hybrid_sharding_num_model_replicas or world.nodes
    if world.size % replicas:
        raise ConfigError(
            f"fsdp.hybrid_sharding_num_model_replicas: {world.size} ranks are not "
            f"{replicas} equal replicas"
        )
    shape = (replicas, world.size // replicas)
    names = ("replicate", "shard")
    # New groups are of NCCL alone: with the world's backends they would connect by gloo, too. A
    # dimension of all ranks is the world's own group.
    alone: dict[Any, Any] = {}
    if kind == "cuda" and min(shape) > 1:
        alone = dict.fromkeys(names, "nccl")
    return init_device_mesh(kind, shape, mesh_dim_names=names, backend_override=alone)


class ShardedGradients(Gradients):
    """Hold one shard of each gradient per rank, reduced during the last microbatch's backward pass.

    Between the microbatches of a step each rank keeps the unsharded sum in float32, which takes as
    much memory as the whole model. Reducing with every microbatch avoids that; replicas are summed
    once per step even then.

    Where gathered weights are kept, they are until gradients are reduced, as FSDP1 keeps them
    inside `no_sync` (torch's documentation of `ShardingStrategy`).

    Args:
        model: Whose parameters they belong to.
        root: The same model, as `shard` returns it.
        config: `fsdp.sharding_strategy`, `core.reduce_every_microbatch`.
        sums: Number of sums.
    """

    def __init__(
        self, model: Transformer, root: FSDPModule, config: TrainConfig, *, sums: int
    ) -> None:
        self._root, self._parameters = root, list(model.parameters())
        self._every_microbatch = config.core.reduce_every_microbatch
        self._keeps_gathered = config.fsdp.keeps_gathered
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
        reduces = last or self._every_microbatch
        self._root.set_requires_gradient_sync(reduces)
        self._root.set_requires_all_reduce(last)
        self._root.set_reshard_after_backward(reduces or not self._keeps_gathered)

    def norm(self) -> Tensor:
        """Return the L2 norm over all shards."""
        squared = nn.utils.get_total_norm(self._parts()).square()
        dist.all_reduce(squared, group=self._shard_group)
        return squared.sqrt()

    def _parts(self) -> list[Tensor]:
        found = [parameter.grad for parameter in self._parameters]
        return [gradient.to_local() for gradient in found if isinstance(gradient, DTensor)]
