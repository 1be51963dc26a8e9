"""Shapes and random models that the tests of checkpoints share, ours and transformers'."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.models.olmo import OlmoConfig, OlmoForCausalLM
from transformers.models.olmo2 import Olmo2Config, Olmo2ForCausalLM

from olmo_core.checkpoint.load import resolve
from olmo_core.checkpoint.source import Position, Source
from olmo_core.config.load import to_dict
from olmo_core.config.model import ModelConfig
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import AdamW, Group
from tests.olmo_core.checkpoint import olmo_writer
from tests.olmo_core.checkpoint.ranks import ALONE

COMMON: dict[str, Any] = {
    "d_model": 24,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 80,
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
    "max_sequence_length": 32,
    "vocab_size": 60,
    "embedding_size": 64,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
OLMO1: dict[str, Any] = {**COMMON, "layer_norm_with_affine": False}
OLMO2: dict[str, Any] = {
    **COMMON,
    "layer_norm_type": "rms",
    "layer_norm_eps": 1e-6,
    "attention_layer_norm": True,
    "norm_after": True,
    "rope_theta": 500_000,
    "weight_tying": False,
}
OLMO2_GROUPED = ModelConfig(**OLMO2, n_kv_heads=2)
OLMO1_TIED = ModelConfig(**OLMO1, weight_tying=True, clip_qkv=2.0)
LOADED = {"olmo2, grouped queries": OLMO2_GROUPED, "olmo1, tied": OLMO1_TIED}


def theirs(config: ModelConfig) -> Any:
    """A random model of transformers' of this shape."""
    torch.manual_seed(3)
    common: Any = {
        "vocab_size": 64,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "initializer_range": 0.3,
    }
    if config is OLMO2_GROUPED:
        return Olmo2ForCausalLM(
            Olmo2Config(
                **common,
                num_key_value_heads=2,
                rms_norm_eps=1e-6,
                rope_parameters={"rope_theta": 500_000.0, "rope_type": "default"},
            )
        )
    return OlmoForCausalLM(OlmoConfig(**common, clip_qkv=2.0, tie_word_embeddings=True))


def opened(path: Path | str, config: ModelConfig, cache: Path | None = None) -> Source:
    return resolve(str(path), model=config, world=ALONE, cache=cache)


def position(source: Source) -> Position:
    assert source.position is not None
    return source.position()


def fresh(config: ModelConfig) -> tuple[Any, Any]:
    model = Transformer(config)
    group = Group(parameters=[*model.parameters()], weight_decay=0.01)
    return model, AdamW([group], learning_rate=1e-3)


def same_logits(ours: Transformer, other: Any) -> bool:
    ids = torch.randint(0, 60, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: Tensor = ours(ids)
        return torch.allclose(found, other(ids).logits, rtol=1e-4, atol=1e-5)


def write_olmo(
    folder: Path,
    config: ModelConfig,
    form: Literal["pt", "safetensors"] = "pt",
    *,
    numbered: bool = False,
    change: Callable[..., Any] | None = None,
) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """OLMo's folder of a random model; returns the model, and moments by transformers' names."""
    other = theirs(config)
    weights = {name: tensor.detach() for name, tensor in other.state_dict().items()}
    tied = config.weight_tying
    moments = {
        name: {
            kind: torch.rand(tensor.shape, generator=torch.Generator().manual_seed(i))
            for kind in ("exp_avg", "exp_avg_sq")
        }
        for i, (name, tensor) in enumerate(weights.items())
    }
    by_kind = {
        kind: olmo_writer.fused(
            {name: entry[kind] for name, entry in moments.items()}, layers=2, tied=tied
        )
        for kind in ("exp_avg", "exp_avg_sq")
    }
    fused = olmo_writer.fused(weights, layers=2, tied=tied)
    state = {name: {kind: by_kind[kind][name] for kind in by_kind} for name in fused}
    section = {**to_dict(config), "flash_attention": True, "precision": "amp_bf16"}
    section["layer_norm_eps"] = "1e-6" if config is OLMO2_GROUPED else 1e-5  # as YAML reads it
    values = {"seed": 6198, "global_train_batch_size": 8, "model": section, "data": {}}
    if change is not None:
        change(fused, state, values)
    olmo_writer.write(
        folder, values, fused, state, step=7, examples=56, form=form, numbered=numbered
    )
    return other, moments
