"""What the benchmarks train of ours: an OLMo 2 of a shape, on batches of token ids.

Imports our `olmo_core`, so a contestant that measures AI2's library of that name leaves it alone.
"""

from typing import Any

import numpy as np

from olmo_core.config.model import ModelConfig
from olmo_core.data.loader import Batch


def model_config(shape: dict[str, Any]) -> ModelConfig:
    """OLMo 2 of this width, depth, feed-forward size, vocabulary and length."""
    return ModelConfig(
        d_model=shape["d_model"],
        n_heads=shape["n_heads"],
        n_layers=shape["n_layers"],
        mlp_hidden_size=2 * shape["feed_forward_size"],
        max_sequence_length=shape["sequence_length"],
        vocab_size=shape["vocab_size"],
        embedding_size=shape["vocab_size"],
        rope=True,
        rope_theta=500_000,
        attention_dropout=0.0,
        residual_dropout=0.0,
        embedding_dropout=0.0,
        include_bias=False,
        weight_tying=False,
        layer_norm_type="rms",
        layer_norm_eps=1e-6,
        attention_layer_norm=True,
        norm_after=True,
    )


def batch_of_all(ids: np.ndarray) -> Batch:
    """Token ids (b, T) as a batch of which every label counts."""
    return Batch(
        instances=np.arange(len(ids)),
        input_ids=ids,
        label_mask=None,
        positions=None,
        instance_mask=np.ones(len(ids), dtype=bool),
    )
