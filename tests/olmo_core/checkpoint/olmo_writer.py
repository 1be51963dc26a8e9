"""Writes what OLMo's own trainer leaves, from transformers' models; knows nothing of our reader.

As OLMo's `olmo/checkpoint.py` (`FullCheckpointer`) and `olmo/safetensors_util.py` do.
"""

import base64
import pickle
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

MODEL_KEYS = {
    "self_attn.o_proj": "attn_out",
    "self_attn.q_norm": "q_norm",
    "self_attn.k_norm": "k_norm",
    "mlp.down_proj": "ff_out",
    "post_attention_layernorm": "attn_norm",
    "post_feedforward_layernorm": "ff_norm",
}


def fused(state: dict[str, Tensor], *, layers: int, tied: bool) -> dict[str, Tensor]:
    """Tensors by transformers' names under OLMo's, some of them joined."""
    ours = {"transformer.wte.weight": state["model.embed_tokens.weight"]}
    for i in range(layers):
        old, new = f"model.layers.{i}", f"transformer.blocks.{i}"
        ours[f"{new}.att_proj.weight"] = torch.cat(
            [state[f"{old}.self_attn.{name}_proj.weight"] for name in "qkv"]
        )
        ours[f"{new}.ff_proj.weight"] = torch.cat(
            [state[f"{old}.mlp.{name}_proj.weight"] for name in ("up", "gate")]
        )
        for theirs, mine in MODEL_KEYS.items():
            if f"{old}.{theirs}.weight" in state:
                ours[f"{new}.{mine}.weight"] = state[f"{old}.{theirs}.weight"]
    if "model.norm.weight" in state:
        ours["transformer.ln_f.weight"] = state["model.norm.weight"]
    if not tied:
        ours["transformer.ff_out.weight"] = state["lm_head.weight"]
    return ours


def write(
    folder: Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    moments: dict[str, dict[str, Tensor]],
    *,
    step: int,
    examples: int,
    form: Literal["pt", "safetensors"],
    numbered: bool,
) -> None:
    """Write `step{N}-unsharded`; `numbered`: the optimizer's state by numbers, as without FSDP."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    names = list(weights)
    half = len(names) // 2
    identifiers = list(range(len(names))) if numbered else names
    groups = [
        {"params": identifiers[part], "param_names": names[part], "lr": 1e-3, "betas": (0.9, 0.95)}
        for part in (slice(half), slice(half, None))
    ]
    state = {
        identifier: {**moments[name], "step": torch.tensor(float(step))}
        for identifier, name in zip(identifiers, names, strict=True)
    }
    trainer = {
        "epoch": 0,
        "global_step": step,
        "global_train_examples_seen_this_epoch": examples,
        "global_train_tokens_seen": step * 1000,
        "world_size": 1,
        "checkpoints": [Path("/runs/a/step1")],
        "rng": {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.random.get_rng_state(),
            "cuda": None,
        },
    }
    for name, content in (
        ("model", weights),
        ("optim", {"state": state, "param_groups": groups}),
        ("train", trainer),
    ):
        if form == "pt":
            torch.save(content, folder / f"{name}.pt")
        else:
            save_file(encoded(content), folder / f"{name}.safetensors")


def encoded(tree: dict[Any, Any], key: tuple[Any, ...] = ()) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= encoded(value, (*key, name))
            continue
        pickled = not isinstance(value, Tensor)
        if pickled:
            value = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        code = base64.urlsafe_b64encode(pickle.dumps(((*key, name), pickled)))
        flat[code.decode()] = value.clone()
    return flat
