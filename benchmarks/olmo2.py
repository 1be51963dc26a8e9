"""What the benchmarks train and score of ours: an OLMo 2 of a shape, on batches of token ids.

Imports our `olmo_core`, so a contestant that measures AI2's library of that name leaves it alone.
"""

from pathlib import Path
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


def write_random_model(folder: Path, config: ModelConfig, *, eos_token_id: int) -> None:
    """Write a model of random weights as a Hugging Face folder, without a tokenizer."""
    import torch  # here, so that a training step that is measured holds nothing of it
    from safetensors.torch import save_file

    from olmo_core.checkpoint.huggingface import huggingface_config, to_huggingface
    from olmo_core.files import write_json
    from olmo_core.model.transformer import Transformer

    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.1)
    state = to_huggingface({name: p.detach() for name, p in model.named_parameters()}, config)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    values = huggingface_config(config, eos_token_id=eos_token_id, pad_token_id=1)
    write_json(folder / "config.json", values)


def batch_of_all(ids: np.ndarray) -> Batch:
    """Token ids (b, T) as a batch of which every label counts."""
    return Batch(
        instances=np.arange(len(ids)),
        input_ids=ids,
        label_mask=None,
        positions=None,
        instance_mask=np.ones(len(ids), dtype=bool),
    )
