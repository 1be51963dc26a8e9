"""Which strategy several ranks take, and that one rank takes none."""

import pytest
import torch

from olmo_core.config.compute import DistributedStrategy
from olmo_core.config.model import ModelConfig
from olmo_core.config.optim import OptimizerConfig
from olmo_core.config.placement import FSDPConfig
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.gradients import ReplicatedGradients
from olmo_core.parallel.prepare import is_sharded, prepare
from olmo_core.parallel.world import World
from tests.olmo_core.parallel.conftest import SHAPE

CPU = torch.device("cpu")


def config(strategy: DistributedStrategy | None, sharding: FSDPConfig | None = None) -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(**{**SHAPE, "weight_tying": True}),
        optimizer=OptimizerConfig(name="adamw"),
        precision="fp32",
        distributed_strategy=strategy,
        fsdp=sharding or FSDPConfig(),
    )


@pytest.mark.parametrize("strategy", ["fsdp", "ddp", "single", None])
def test_one_rank_holds_everything(strategy: DistributedStrategy | None) -> None:
    with torch.device("meta"):
        model = Transformer(config(strategy).model)
    gradients = prepare(model, config(strategy), World(device=CPU), sums=3)
    assert isinstance(gradients, ReplicatedGradients)
    assert gradients.sums.shape == (3,)
    assert {parameter.device for parameter in model.parameters()} == {CPU}
    assert model.lm_head.weight is model.embeddings.weight


def test_a_model_with_weights_keeps_them() -> None:
    model = Transformer(config("fsdp").model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    prepare(model, config("fsdp"), World(device=CPU), sums=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_several_ranks_shard_or_replicate() -> None:
    two = World(size=2, local_size=2, device=CPU)
    assert is_sharded(config("fsdp"), two)
    assert not is_sharded(config("ddp"), two)
    assert not is_sharded(config("fsdp", FSDPConfig(sharding_strategy="NO_SHARD")), two)
    for strategy in ("single", None):
        with pytest.raises(ConfigError, match="there are 2 ranks; fsdp or ddp"):
            is_sharded(config(strategy), two)
