"""Names and shapes of our parameters in transformers' Olmo and Olmo2, both ways, bit for bit.

A conversion renames, and rounds where bf16 is asked for; it computes nothing else. Every expected
key must be there and no other may be. What is loaded to evaluate, our model or transformers', is in
f32, and never of weights not in the files.
Sources: transformers `models/olmo{,2}/modeling_*.py`; our names are `olmo_core.model`'s.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from olmo_core.checkpoint.state import assemble
from olmo_core.checkpoint.tensor_file import TensorSpec, open_safetensors
from olmo_core.checkpoint.weight_files import open_weights, write_weights
from olmo_core.config.model import NEUTRAL, ModelConfig
from olmo_core.errors import ConfigError, InputError, listed
from olmo_core.files import read_json
from olmo_core.model.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Architecture = Literal["Olmo2ForCausalLM", "OlmoForCausalLM"]
Dtype = Literal["float32", "bfloat16"]  # of the weights that are written
T = TypeVar("T")

SAFETENSORS: Mapping[Dtype, str] = {"float32": "F32", "bfloat16": "BF16"}

MATRICES = {
    "attention.w_q": "self_attn.q_proj",
    "attention.w_k": "self_attn.k_proj",
    "attention.w_v": "self_attn.v_proj",
    "attention.w_out": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
OLMO2_NORMS = {
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "attention_norm": "post_attention_layernorm",
    "feed_forward_norm": "post_feedforward_layernorm",
}
# What each architecture computes, by our keys; a model of other values has no Hugging Face form.
FORMS: Mapping[Architecture, dict[str, Any]] = {
    "Olmo2ForCausalLM": {
        "norm_after": True,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "attention_layer_norm": True,
        "attention_layer_norm_with_affine": True,
        "clip_qkv": None,
    },
    "OlmoForCausalLM": {
        "norm_after": False,
        "layer_norm_type": "default",
        "layer_norm_with_affine": False,
        "attention_layer_norm": False,
        "layer_norm_eps": 1e-5,  # fixed in transformers' OlmoLayerNorm
    },
}


def architecture(config: ModelConfig) -> Architecture:
    """Return the name of the transformers class that computes what `config` says.

    Raises:
        ConfigError: there is none; says which key stands in the way of the nearest one.
    """
    name: Architecture = "Olmo2ForCausalLM" if config.norm_after else "OlmoForCausalLM"
    for key, value in FORMS[name].items():
        if getattr(config, key) != value:
            raise ConfigError(
                f"model.{key}: {getattr(config, key)!r} has no Hugging Face form; with norm_after "
                f"{str(config.norm_after).lower()} {name} needs {value!r}"
            )
    return name


def parameter_names(config: ModelConfig) -> dict[str, str]:
    """Return our name -> transformers' name of every parameter of a model of this shape."""
    olmo2 = architecture(config) == "Olmo2ForCausalLM"
    names = {"embeddings.weight": "model.embed_tokens.weight"}
    for i in range(config.n_layers):
        for ours, theirs in (MATRICES | OLMO2_NORMS if olmo2 else MATRICES).items():
            names[f"blocks.{i}.{ours}.weight"] = f"model.layers.{i}.{theirs}.weight"
    if olmo2:
        names["norm.weight"] = "model.norm.weight"
    if not config.weight_tying:
        names["lm_head.weight"] = "lm_head.weight"
    return names


def to_huggingface(state: Mapping[str, T], config: ModelConfig) -> dict[str, T]:
    """Return our state dict under transformers' names; the tensors are the same objects.

    Raises:
        InputError: a parameter is missing or unexpected.
    """
    return _rename(state, parameter_names(config))


def from_huggingface(state: Mapping[str, T], config: ModelConfig) -> dict[str, T]:
    """Return a transformers state dict under our names; the tensors are the same objects.

    Raises:
        InputError: a parameter is missing or unexpected.
    """
    return _rename(state, {theirs: ours for ours, theirs in parameter_names(config).items()})


def convert_weights(
    source: Path,
    folder: Path,
    config: ModelConfig,
    *,
    dtype: Dtype = "float32",
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write our weights file `source` for transformers, a tensor in memory at a time.

    Args:
        source: A run's or a soup's `model.safetensors`.
        folder: Receives one file, or shards and their index.
        config: The model's shape.
        dtype: Of the tensors written; rounded to the nearest, ties to even.
        max_shard_bytes: Bytes of tensors in a shard.

    Raises:
        InputError: a parameter is missing or unexpected, or the file is damaged.
    """
    stored = to_huggingface(open_safetensors(source), config)
    specs = {
        name: TensorSpec(dtype=SAFETENSORS[dtype], shape=tensor.shape)
        for name, tensor in stored.items()
    }

    def data(name: str) -> memoryview:
        tensor = stored[name].read().to(getattr(torch, dtype)).flatten()
        return tensor.view(torch.uint8).numpy().data

    write_weights(folder, specs, data, max_shard_bytes)


def _rename(state: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    kinds = {"missing": names.keys() - state.keys(), "unexpected": state.keys() - names.keys()}
    if wrong := [f"{kind} parameters: {listed(found)}" for kind, found in kinds.items() if found]:
        raise InputError("; ".join(wrong))
    return {names[name]: tensor for name, tensor in state.items()}


def huggingface_config(
    config: ModelConfig,
    *,
    eos_token_id: int,
    pad_token_id: int | None,
    bos_token_id: int | None = None,
    dtype: Dtype = "float32",
) -> dict[str, Any]:
    """Return what `config.json` says of a model of ours, whose weights are written as `dtype`."""
    name = architecture(config)
    values: dict[str, Any] = {
        "architectures": [name],
        "model_type": "olmo2" if name == "Olmo2ForCausalLM" else "olmo",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos_token_id,
        "dtype": dtype,
        "eos_token_id": eos_token_id,
        "hidden_act": "silu",
        "hidden_size": config.d_model,
        "initializer_range": config.init_std,
        "intermediate_size": config.feed_forward_size,
        "max_position_embeddings": config.max_sequence_length,
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.kv_heads,
        "pad_token_id": pad_token_id,
        "rope_parameters": {"rope_theta": float(config.rope_theta), "rope_type": "default"},
        "tie_word_embeddings": config.weight_tying,
        "use_cache": True,
        "vocab_size": config.padded_vocab_size,  # the softmax runs over padding rows too
    }
    if name == "Olmo2ForCausalLM":
        values["rms_norm_eps"] = config.layer_norm_eps
    else:
        values["clip_qkv"] = config.clip_qkv
    return values


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """Return the shape that a `config.json` of transformers' Olmo or Olmo2 describes.

    Raises:
        InputError: another model type, or an option that our model does not have.
    """
    kind = values.get("model_type")
    if kind not in ("olmo", "olmo2"):
        raise InputError(f"config.json: model_type {kind!r}; expected 'olmo' or 'olmo2'")
    rope = values.get("rope_parameters") or {"rope_theta": values.get("rope_theta", 10_000.0)}
    for key, found, neutral in (
        ("attention_bias", values.get("attention_bias", False), False),
        ("hidden_act", values.get("hidden_act", "silu"), "silu"),
        ("rope_parameters.rope_type", rope.get("rope_type", "default"), "default"),
    ):
        if found != neutral:
            raise InputError(f"config.json: {key} is {found!r}; only {neutral!r} is known here")
    pad, eos = values.get("pad_token_id"), values["eos_token_id"]
    if kind == "olmo2":
        form = {**FORMS["Olmo2ForCausalLM"], "layer_norm_eps": values["rms_norm_eps"]}
    else:
        form = {**FORMS["OlmoForCausalLM"], "clip_qkv": values.get("clip_qkv")}
    return ModelConfig(
        **NEUTRAL,
        **form,
        d_model=values["hidden_size"],
        n_heads=values["num_attention_heads"],
        n_kv_heads=values.get("num_key_value_heads"),
        n_layers=values["num_hidden_layers"],
        mlp_hidden_size=2 * values["intermediate_size"],
        rope_theta=int(rope["rope_theta"]),
        max_sequence_length=values["max_position_embeddings"],
        vocab_size=values["vocab_size"],
        embedding_size=values["vocab_size"],
        weight_tying=values.get("tie_word_embeddings", False),
        eos_token_id=eos,
        pad_token_id=eos if pad is None else pad,
    )


def device_for_evaluation() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_exported(folder: Path, device: torch.device) -> Transformer:
    """Return our own model with the weights of a Hugging Face folder.

    Raises:
        InputError: a file is missing or truncated, a parameter is missing, unexpected or
            misshapen, or the folder holds another kind of model.
    """
    values = read_json(folder / "config.json")
    stored = open_weights(folder)
    try:
        config = model_config(values)
        weights = from_huggingface(stored, config)
    except (InputError, KeyError) as error:
        raise InputError(f"{folder}: {error}") from error
    return assemble(config, weights, folder, device)


def load_pretrained(
    folder: Path, device: torch.device, *, streamed: bool = False
) -> "PreTrainedModel":
    """Load transformers' own model of a Hugging Face folder, in f32.

    Args:
        folder: Where it lies.
        device: Of the weights.
        streamed: Leave the weights in their files and read a layer when it is computed, on the
            CPU: a model of any size, at the cost of reading it with every call.

    Raises:
        InputError: a file is missing or truncated; weights are missing, unexpected or of another
            shape. Transformers would initialise them at random and go on.
    """
    open_weights(folder)  # names the shard that is at fault; transformers may not
    from transformers import AutoModelForCausalLM  # slow, and our own model needs none of it
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # they are refused below, with the folder's name
        **({"device_map": {"": "disk"}} if streamed else {}),
    )
    model, info = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := info.get(kind):
            raise InputError(f"{folder}: {kind.replace('_', ' ')}: {listed(map(str, found))}")
    return (model if streamed else model.to(device)).eval()
