"""Sharded over two and four ranks, a model computes what it computes on one device.

65 rows divide by neither number, 10 feed-forward units not by four: shards are uneven.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from olmo_core.config.placement import FSDPConfig
from olmo_core.errors import ConfigError
from olmo_core.parallel.sharding import make_mesh
from olmo_core.parallel.world import World

RANK = Path(__file__).with_name("rank.py")
Ranks = Callable[..., None]


def test_two_ranks(ranks: Ranks) -> None:
    full, grad_op = {"sharding_strategy": "FULL_SHARD"}, {"sharding_strategy": "SHARD_GRAD_OP"}
    cases = [
        {"fsdp": full},
        {"fsdp": full, "shape": {"weight_tying": True}},
        {"fsdp": grad_op, "activation_checkpointing": "one_in_two"},
        {
            "fsdp": full,
            "compile": True,
            "activation_checkpointing": "whole_layer",
            "documents": True,
        },
        {"fsdp": full, "activation_checkpointing": "fine_grained"},
        {"fsdp": full, "reduce_every_microbatch": True},
        {"fsdp": grad_op, "reduce_every_microbatch": True},
        {"fsdp": full, "shape": {"layer_norm_with_affine": False}},
    ]
    ranks(RANK, 2, cases=cases)


def test_bfloat16_parameters_are_gathered_and_float32_reduced(ranks: Ranks) -> None:
    mixed = {"fsdp": {"precision": "mixed"}, "precision": "amp_bf16", "tolerance": 3e-2}
    plain = {"fsdp": {"precision": None}, "precision": "amp_bf16", "tolerance": 1e-2}
    ranks(RANK, 2, cases=[mixed, plain])


@pytest.mark.slow
def test_four_ranks_on_two_nodes(ranks: Ranks) -> None:
    hybrid = {"sharding_strategy": "HYBRID_SHARD"}
    cases = [
        {"fsdp": {}},
        {"fsdp": hybrid, "shape": {"weight_tying": True}},
        {"fsdp": {**hybrid, "hybrid_sharding_num_model_replicas": 1}},
        {"fsdp": hybrid, "reduce_every_microbatch": True},
        {"fsdp": {"sharding_strategy": "_HYBRID_SHARD_ZERO2"}},
    ]
    ranks(RANK, 4, local_size=2, cases=cases)


def test_replicas_that_do_not_divide_the_ranks_are_refused() -> None:
    world = World(rank=0, size=4, local_size=4, device=torch.device("cpu"))
    config = FSDPConfig(sharding_strategy="HYBRID_SHARD", hybrid_sharding_num_model_replicas=3)
    with pytest.raises(ConfigError, match="4 ranks are not 3 equal replicas"):
        make_mesh(config, world)
    with pytest.raises(ValueError, match="replicas is 0; expected 1 or more"):
        FSDPConfig(hybrid_sharding_num_model_replicas=0)
