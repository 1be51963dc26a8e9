"""Our weights in transformers and back: the same bits, the same logits, nothing left over."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, OlmoConfig, OlmoForCausalLM
from transformers.models.olmo2 import Olmo2Config, Olmo2ForCausalLM

from olmo_core.checkpoint.huggingface import (
    convert_weights,
    from_huggingface,
    huggingface_config,
    load_exported,
    load_pretrained,
    model_config,
    to_huggingface,
)
from olmo_core.config.model import ModelConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_json
from olmo_core.model.transformer import Transformer
from tests.olmo_core.checkpoint.models import OLMO1, OLMO2

MODELS = {
    "olmo2": ModelConfig(**OLMO2),
    "olmo2 grouped queries": ModelConfig(**OLMO2, n_kv_heads=2),
    "olmo1 1B, tied": ModelConfig(**OLMO1, weight_tying=True),
    "olmo1 7B": ModelConfig(**OLMO1, weight_tying=False),
    "olmo1 0724": ModelConfig(**OLMO1, weight_tying=False, clip_qkv=0.5),
}


def random_state(config: ModelConfig) -> tuple[Transformer, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return model, {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("config", MODELS.values(), ids=list(MODELS))
def test_transformers_computes_the_same_and_the_bits_come_back(
    config: ModelConfig, tmp_path: Path
) -> None:
    ours, state = random_state(config)
    save_file(state, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path, config)
    values = huggingface_config(config, eos_token_id=0, pad_token_id=1)
    write_json(tmp_path / "config.json", values)

    theirs = load_pretrained(tmp_path, torch.device("cpu"))
    ids = torch.randint(0, 60, (2, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, ours(ids), rtol=1e-4, atol=1e-5)

    exported = load_file(tmp_path / "model.safetensors")
    back = from_huggingface(exported, model_config(values))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    again = load_exported(tmp_path, torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(again(ids), ours(ids))


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (Olmo2ForCausalLM, Olmo2Config(rms_norm_eps=1e-6)),
        (OlmoForCausalLM, OlmoConfig(clip_qkv=8.0)),
        (OlmoForCausalLM, OlmoConfig(tie_word_embeddings=True)),
    ],
)
def test_names_are_all_those_that_transformers_has(model_class: type, config: OlmoConfig) -> None:
    for name, value in {
        "vocab_size": 64,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }.items():
        setattr(config, name, value)
    model = model_class(config)
    shape = model_config(config.to_dict())
    state = {name: p.detach() for name, p in model.named_parameters()}
    ours = from_huggingface(state, shape)
    expected = {name: p.shape for name, p in Transformer(shape).named_parameters()}
    assert {name: tensor.shape for name, tensor in ours.items()} == expected
    assert to_huggingface(ours, shape).keys() == state.keys()


def test_the_configuration_is_transformers_own(tmp_path: Path) -> None:
    values = huggingface_config(MODELS["olmo2"], eos_token_id=0, pad_token_id=1)
    write_json(tmp_path / "config.json", values)
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, Olmo2Config)
    assert dict(read.rope_parameters or {})["rope_theta"] == 500_000
    assert model_config(read.to_dict()) == model_config(values)


def test_a_missing_or_unexpected_key_stops() -> None:
    config = MODELS["olmo2"]
    _, state = random_state(config)
    del state["blocks.1.attention.q_norm.weight"]
    with pytest.raises(
        InputError, match=r"missing parameters: blocks\.1\.attention\.q_norm\.weight"
    ):
        to_huggingface(state, config)
    state["blocks.1.attention.q_norm.weight"] = state["norm.weight"]
    state["extra"] = state["norm.weight"]
    with pytest.raises(InputError, match="unexpected parameters: extra"):
        to_huggingface(state, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_after": False}, r"model\.layer_norm_type: 'rms' has no Hugging Face form"),
        ({"attention_layer_norm": False}, r"model\.attention_layer_norm: False"),
        ({"clip_qkv": 8.0}, r"model\.clip_qkv: 8\.0"),
    ],
)
def test_what_transformers_lacks_is_refused(change: dict[str, object], message: str) -> None:
    config = ModelConfig(**{**OLMO2, **change})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=message):
        huggingface_config(config, eos_token_id=0, pad_token_id=1)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_damaged_weights_are_never_evaluated(damage: str, tmp_path: Path) -> None:
    config = MODELS["olmo2"]
    _, state = random_state(config)
    theirs = dict(to_huggingface(state, config))
    if damage == "missing":
        del theirs["model.layers.0.mlp.up_proj.weight"]
    elif damage == "unexpected":
        theirs["model.layers.9.mlp.up_proj.weight"] = torch.ones(2)
    else:
        theirs["model.norm.weight"] = torch.ones(7)
    save_file(theirs, tmp_path / "model.safetensors", metadata={"format": "pt"})
    write_json(tmp_path / "config.json", huggingface_config(config, eos_token_id=0, pad_token_id=1))
    for load in (load_exported, load_pretrained):
        with pytest.raises(InputError, match=re.escape(str(tmp_path))):
            load(tmp_path, torch.device("cpu"))


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(InputError, match="model_type 'llama'"):
        model_config({"model_type": "llama"})
