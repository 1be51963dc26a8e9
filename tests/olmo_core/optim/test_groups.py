"""Which parameters decay, by OLMo's flags."""

from typing import Any

import pytest

from olmo_core.config.model import ModelConfig
from olmo_core.config.optim import OptimizerConfig
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import build_optimizer

SHAPE: dict[str, Any] = {
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 1,
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
    "layer_norm_type": "rms",
    "attention_layer_norm": True,
    "vocab_size": 64,
    "embedding_size": 64,
}


@pytest.mark.parametrize(
    ("flags", "tied", "undecayed"),
    [
        # OLMo 2: norms decay, the input table does not
        ({"decay_norm_and_bias": True}, False, {"embeddings.weight"}),
        # OLMo 1B: a tied table is undecayed, head and all
        ({"decay_norm_and_bias": True}, True, {"embeddings.weight"}),
        # 0424: everything decays
        ({"decay_norm_and_bias": True, "decay_embeddings": True}, False, set()),
        (
            {},
            False,
            {
                "embeddings.weight",
                "norm.weight",
                "blocks.0.attention_norm.weight",
                "blocks.0.feed_forward_norm.weight",
                "blocks.0.attention.q_norm.weight",
                "blocks.0.attention.k_norm.weight",
            },
        ),
    ],
)
def test_groups(flags: dict[str, bool], tied: bool, undecayed: set[str]) -> None:
    model = Transformer(ModelConfig(**SHAPE, weight_tying=tied))
    config = OptimizerConfig(name="adamw", weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8, **flags)
    optimizer = build_optimizer(config, model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]
        for group in optimizer.groups
        if group.weight_decay == 0
        for parameter in group.parameters
    }
    assert found == undecayed
    assert sum(len(group.parameters) for group in optimizer.groups) == len(names)
    assert optimizer.groups[0].weight_decay == 0.1
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.95), 1e-8)
