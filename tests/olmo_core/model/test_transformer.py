"""Our models against transformers' `Olmo` and `Olmo2` on the same random weights."""

from typing import Any

import pytest
import torch
from torch import Tensor

from olmo_core.config.model import ModelConfig
from olmo_core.model.documents import Documents, cu_doc_lens_of
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer

NEUTRAL: dict[str, Any] = {
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
}
SMALL: dict[str, Any] = {
    "d_model": 64,
    "n_heads": 4,
    "n_layers": 3,
    "mlp_hidden_size": 192,
    "max_sequence_length": 96,
    "vocab_size": 307,
    "embedding_size": 320,
    "eos_token_id": 0,
    "pad_token_id": 1,
    **NEUTRAL,
}
OLMO2: dict[str, Any] = {
    **SMALL,
    "layer_norm_type": "rms",
    "layer_norm_eps": 1e-6,
    "attention_layer_norm": True,
    "norm_after": True,
    "weight_tying": False,
    "rope_theta": 500_000,
}
OLMO1: dict[str, Any] = {**SMALL, "layer_norm_with_affine": False}
MODELS = {
    "olmo2": OLMO2,
    "olmo2-grouped": {**OLMO2, "n_kv_heads": 2},
    "olmo1-tied": OLMO1,
    "olmo1-clipped": {**OLMO1, "weight_tying": False, "clip_qkv": 0.5},
}


def hugging_face(config: ModelConfig) -> Any:
    import transformers

    shared: dict[str, Any] = {
        "vocab_size": config.padded_vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.feed_forward_size,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": config.max_sequence_length,
        "tie_word_embeddings": config.weight_tying,
        "rope_parameters": {"rope_theta": float(config.rope_theta), "rope_type": "default"},
        "attn_implementation": "sdpa",
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    if config.layer_norm_type == "rms":
        return transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**shared, rms_norm_eps=1e-6))
    return transformers.OlmoForCausalLM(transformers.OlmoConfig(**shared, clip_qkv=config.clip_qkv))


def hugging_face_name(name: str) -> str:
    for ours, theirs in (
        ("blocks.", "layers."),
        ("attention.w_q", "self_attn.q_proj"),
        ("attention.w_k", "self_attn.k_proj"),
        ("attention.w_v", "self_attn.v_proj"),
        ("attention.w_out", "self_attn.o_proj"),
        ("attention.q_norm", "self_attn.q_norm"),
        ("attention.k_norm", "self_attn.k_norm"),
        ("attention_norm", "post_attention_layernorm"),
        ("feed_forward_norm", "post_feedforward_layernorm"),
        ("feed_forward.w1", "mlp.gate_proj"),
        ("feed_forward.w2", "mlp.down_proj"),
        ("feed_forward.w3", "mlp.up_proj"),
        ("embeddings.", "embed_tokens."),
    ):
        name = name.replace(ours, theirs)
    return name if name.startswith("lm_head") else f"model.{name}"


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def both(name: str) -> tuple[Transformer, Any]:
    """Our model and transformers', with the same random weights."""
    config = ModelConfig(**MODELS[name])
    ours, theirs = Transformer(config), hugging_face(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ours.parameters():
            scale = 0.3 if parameter.ndim == 1 else 0.08
            parameter.normal_(float(parameter.ndim == 1), scale, generator=generator)
    weights = {hugging_face_name(key): value for key, value in ours.named_parameters()}
    missing = theirs.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert missing.missing_keys == (["lm_head.weight"] if config.weight_tying else [])
    return ours, theirs


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_equal_transformers(name: str) -> None:
    ours, theirs = both(name)
    weights, generator = dict(ours.named_parameters()), torch.Generator().manual_seed(2)
    # from 2: transformers gives the padding row (1) no gradient
    ids = torch.randint(2, ours.config.vocab_size, (2, 96), generator=generator)
    mine, other = ours(ids), theirs(ids).logits
    assert relative_error(mine, other) <= 1e-5
    direction = torch.randn(mine.shape, generator=generator)
    (mine * direction).sum().backward()
    (other * direction).sum().backward()
    gradients = dict(theirs.named_parameters())
    for key, parameter in weights.items():
        gradient = gradients[hugging_face_name(key)].grad
        assert parameter.grad is not None
        assert relative_error(parameter.grad, gradient) <= 1e-5, key


@pytest.mark.parametrize("name", MODELS)
def test_logits_in_bfloat16_are_transformers(name: str) -> None:
    ours, theirs = both(name)
    ids = torch.randint(2, ours.config.vocab_size, (2, 96), generator=torch.Generator())
    with torch.no_grad():
        other = theirs.bfloat16()(ids).logits.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = ours(ids).float()
        pure = ours.bfloat16()(ids).float()
    assert relative_error(mixed, other) <= 2e-2
    assert relative_error(pure, other) <= 2e-2


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_the_residual_stream_is_autocast_s_however_weights_are_held(weights: torch.dtype) -> None:
    model = Transformer(ModelConfig(**OLMO2)).to(weights)
    streams: list[torch.dtype] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, x, y: streams.extend((x[0].dtype, y.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        final = model.hidden(torch.zeros(1, 8, dtype=torch.int64))
    assert set(streams) == {torch.bfloat16} == {final.dtype}
    model.hidden(torch.zeros(1, 8, dtype=torch.int64))
    assert streams[-1] == weights


def test_a_position_sees_the_past_only() -> None:
    model = Transformer(ModelConfig(**OLMO2))
    initialise(model, 0)
    ids = torch.randint(0, 307, (1, 32), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[0, 20] = (ids[0, 20] + 1) % 307
    with torch.no_grad():
        change = (model(ids) - model(other)).abs().amax(dim=-1)[0]
    assert change[:20].max() == 0
    assert change[20:].min() > 0


@pytest.mark.parametrize("name", ["olmo2-grouped", "olmo1-clipped"])
def test_documents_of_an_instance_do_not_see_each_other(name: str) -> None:
    config = ModelConfig(**MODELS[name])
    model = Transformer(config)
    initialise(model, 3)
    lengths = ((40, 1, 55), (96,))  # documents of each instance
    ids = torch.randint(0, config.vocab_size, (2, 96), generator=torch.Generator().manual_seed(2))
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    documents = Documents(positions=positions, cu_doc_lens=cu_doc_lens_of(positions))
    whole = model.hidden(ids, documents)
    for row, states, documents in zip(ids, whole, lengths, strict=True):
        alone = [model.hidden(part[None])[0] for part in row.split(documents)]
        torch.testing.assert_close(states, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (whole[0] - model.hidden(ids)[0]).abs().max() > 0.01  # the test can fail
