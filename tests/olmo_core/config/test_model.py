"""Parameter counts as arithmetic: the published ones, and the meta device's."""

from typing import Any

import pytest

from olmo_core.config.model import ModelConfig, count_parameters, flops_per_token

NEUTRAL: dict[str, Any] = {
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
}
OLMO1: dict[str, Any] = {
    **NEUTRAL,
    "layer_norm_with_affine": False,
    "vocab_size": 50_280,
    "embedding_size": 50_304,
    "max_sequence_length": 2048,
}
OLMO2: dict[str, Any] = {
    **NEUTRAL,
    "layer_norm_type": "rms",
    "attention_layer_norm": True,
    "norm_after": True,
    "weight_tying": False,
    "vocab_size": 100_278,
    "embedding_size": 100_352,
    "max_sequence_length": 4096,
}
# shape, total parameters, without the input table
PUBLISHED: dict[str, tuple[dict[str, Any], int, int]] = {
    "OLMo-1B": (
        {**OLMO1, "d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8},
        1_176_764_416,
        1_073_741_824,
    ),
    "OLMo-7B": (
        {**OLMO1, "d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22_016,
         "weight_tying": False},
        6_888_095_744,
        6_682_050_560,
    ),
    "OLMo-65B": (
        {**OLMO1, "d_model": 8192, "n_heads": 64, "n_layers": 80, "mlp_hidden_size": 44_032,
         "weight_tying": False},
        65_584_234_496,
        65_172_144_128,
    ),
    "tiny 20M": (
        {**OLMO1, "d_model": 256, "n_heads": 8, "n_layers": 8, "mlp_ratio": 8,
         "layer_norm_type": "rms", "layer_norm_with_affine": True, "weight_tying": False},
        34_148_608,
        34_148_608 - 50_304 * 256,
    ),
    "tiny 60M": (
        {**OLMO1, "d_model": 512, "n_heads": 8, "n_layers": 8, "mlp_ratio": 8,
         "layer_norm_type": "rms", "layer_norm_with_affine": True, "weight_tying": False},
        85_074_432,
        85_074_432 - 50_304 * 512,
    ),
    "OLMo-2-1B": (
        {**OLMO2, "d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8},
        1_484_916_736,
        1_279_395_840,
    ),
    "OLMo-2-7B": (
        {**OLMO2, "d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22_016},
        7_298_617_344,
        6_887_575_552,
    ),
    "OLMo-2-13B": (
        {**OLMO2, "d_model": 5120, "n_heads": 40, "n_layers": 40, "mlp_hidden_size": 27_648},
        13_716_198_400,
        13_202_396_160,
    ),
    "OLMo-2-32B": (
        {**OLMO2, "d_model": 5120, "n_heads": 40, "n_kv_heads": 8, "n_layers": 64,
         "mlp_hidden_size": 55_296},
        32_234_279_936,
        31_720_477_696,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones_and_the_meta_device_s(name: str) -> None:
    import torch

    from olmo_core.model.transformer import Transformer

    shape, total, without_input = PUBLISHED[name]
    config = ModelConfig(**shape)
    count = count_parameters(config)
    assert count.total == total
    assert count.without_input_embedding == without_input
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(p.numel() for p in model.parameters()) == total


def test_flops_count_the_head_and_causal_attention() -> None:
    config = ModelConfig(**PUBLISHED["OLMo-2-1B"][0])
    expected = 6 * 1_279_395_840 + 6 * 16 * 2048 * 4096
    assert flops_per_token(config, 4096) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1"),
        ({"rope": False}, "rope is False"),
        ({"block_type": "llama"}, "block_type is 'llama'"),
        ({"bias_for_layer_norm": True}, "bias_for_layer_norm"),
        ({"n_heads": 7}, "d_model"),
        ({"n_kv_heads": 5}, "n_kv_heads"),
        ({"n_kv_heads": 4, "multi_query_attention": True}, "n_kv_heads is 4, but"),
        ({"embedding_size": 10}, "embedding_size"),
    ],
)
def test_what_the_model_does_not_compute_is_refused_by_name(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**PUBLISHED["OLMo-1B"][0], **change})
