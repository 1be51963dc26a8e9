"""What the benchmarks train of ai2-olmo-core: its OLMo 2 of a shape. Imports nothing of ours."""

from typing import Any

import torch


def build(shape: dict[str, Any], device: torch.device) -> Any:
    """Return its model on the device, not compiled; the benchmark gives it first weights."""
    from olmo_core.nn.transformer import TransformerConfig  # pyright: ignore

    reordered = TransformerConfig.olmo2_190M(vocab_size=shape["vocab_size"]).block.name
    config = TransformerConfig.llama_like(
        d_model=shape["d_model"],
        vocab_size=shape["vocab_size"],
        n_layers=shape["n_layers"],
        n_heads=shape["n_heads"],
        hidden_size_multiplier=1.5,
        block_name=reordered,
        qk_norm=True,
        rope_theta=500_000,
        layer_norm_eps=1e-6,
    )
    assert config.block.feed_forward.hidden_size == shape["feed_forward_size"]
    model = config.build(init_device="meta")
    model.init_weights(max_seq_len=shape["sequence_length"], device=device)
    return model
