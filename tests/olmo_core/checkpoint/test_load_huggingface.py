"""Training can start from a Hugging Face folder, and from none that does not fit."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from olmo_core.checkpoint.state import state_of
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from tests.olmo_core.checkpoint.models import (
    LOADED,
    OLMO2_GROUPED,
    fresh,
    opened,
    same_logits,
    theirs,
)


@pytest.mark.parametrize("config", LOADED.values(), ids=list(LOADED))
@pytest.mark.parametrize("shard", ["10KB", "1GB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hugging_face_folder(
    config: ModelConfig, shard: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    other = theirs(config).to(dtype)
    other.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "1GB")
    source = opened(tmp_path, config)
    assert source.position is None
    model, _ = fresh(config)
    source.load(state_of(model, None))
    other = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert same_logits(model, other)
    digests = source.identify()["weights_sha256"]
    assert len(digests) == len(list(tmp_path.glob("*.safetensors")))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f / "config.json", num_attention_heads=2), "n_heads is 2"),
        (lambda f: edit(f / "config.json", rope_theta=1, rope_parameters=None), "rope_theta is 1"),
        (lambda f: edit(f / "config.json", model_type="llama"), "model_type 'llama'"),
        (lambda f: os.truncate(f / "config.json", 40), r"config\.json: not valid JSON: .*\)$"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object, found list"),
        (lambda f: os.truncate(f / "model.safetensors", 9000), r"embed_tokens.weight ends at"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors.index.json"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            r"holds pytorch_model\.bin, but no model\.safetensors .*\.save_pretrained\(NEW\)",
        ),
        (
            lambda f: rewrite(f / "model.safetensors", lambda t: t.pop("model.norm.weight")),
            "missing parameters: model.norm.weight",
        ),
        (
            lambda f: rewrite(f / "model.safetensors", lambda t: t.update(more=torch.ones(1))),
            "unexpected parameters: more",
        ),
        (
            lambda f: rewrite(
                f / "model.safetensors", lambda t: t.update({"lm_head.weight": torch.ones(65, 24)})
            ),
            r"lm_head.weight is \(65, 24\), the model's \(64, 24\)",
        ),
    ],
)  # fmt: skip
def test_a_hugging_face_folder_that_does_not_fit(
    damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    theirs(OLMO2_GROUPED).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        opened(tmp_path, OLMO2_GROUPED).load(state_of(fresh(OLMO2_GROUPED)[0], None))
    assert str(tmp_path) in str(error.value)
