"""Shards as the hub has them: cut as transformers cuts them, read strictly, refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from olmo_core.checkpoint.huggingface import (
    convert_weights,
    huggingface_config,
    load_exported,
    load_pretrained,
)
from olmo_core.checkpoint.streamed import stream
from olmo_core.checkpoint.tensor_file import TensorSpec, open_safetensors
from olmo_core.checkpoint.weight_files import (
    INDEX,
    WEIGHTS,
    open_weights,
    split,
    weight_paths,
    weights_sha256,
)
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import write_json
from olmo_core.model.transformer import Transformer
from tests.olmo_core.checkpoint.models import OLMO1, OLMO2

CPU = torch.device("cpu")
SHAPES = {"olmo2": ModelConfig(**OLMO2), "olmo1, tied": ModelConfig(**OLMO1, weight_tying=True)}


def write(folder: Path, config: ModelConfig, **how: Any) -> Transformer:
    """An exported folder of a random model."""
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    save_file({name: p.detach() for name, p in model.named_parameters()}, folder / "ours")
    convert_weights(folder / "ours", folder, config, **how)
    dtype = how.get("dtype", "float32")
    values = huggingface_config(config, eos_token_id=0, pad_token_id=1, dtype=dtype)
    write_json(folder / "config.json", values)
    return model


@pytest.mark.parametrize("config", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("max_shard_bytes", [10_000, 10_000_000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_reads_the_same_weights(
    config: ModelConfig, max_shard_bytes: int, dtype: str, tmp_path: Path
) -> None:
    model = write(tmp_path, config, dtype=dtype, max_shard_bytes=max_shard_bytes)
    sharded = max_shard_bytes == 10_000
    assert (tmp_path / INDEX).exists() == sharded
    assert (tmp_path / WEIGHTS).exists() != sharded
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)))
    ids = torch.randint(0, 60, (2, 16))
    with torch.no_grad():
        expected = model(ids)
        whole = load_pretrained(tmp_path, CPU)(input_ids=ids).logits
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(load_exported(tmp_path, CPU)(ids), expected)
        streamed = load_pretrained(tmp_path, CPU, streamed=True)(input_ids=ids).logits
        assert torch.equal(streamed, whole)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.dtype == getattr(torch, dtype)


def test_shards_are_those_that_transformers_would_write(tmp_path: Path) -> None:
    write(tmp_path, SHAPES["olmo2"], max_shard_bytes=10_000)
    AutoModelForCausalLM.from_pretrained(tmp_path).save_pretrained(
        tmp_path / "theirs", max_shard_size="10KB"
    )
    ours, theirs = (
        json.loads((folder / INDEX).read_text()) for folder in (tmp_path, tmp_path / "theirs")
    )
    assert ours["metadata"]["total_size"] == theirs["metadata"]["total_size"]
    assert len(set(ours["weight_map"].values())) == len(set(theirs["weight_map"].values())) > 3
    for path in weight_paths(tmp_path):
        tensors = load_file(path)
        sizes = sum(t.numel() * t.element_size() for t in tensors.values())
        assert sizes <= 10_000 or len(tensors) == 1


def test_a_shard_is_filled_as_far_as_tensors_fit() -> None:
    sizes = {"a": 2, "b": 1, "c": 5, "d": 1}
    specs = {name: TensorSpec(dtype="F32", shape=(size,)) for name, size in sizes.items()}
    assert split(specs, 12) == [["a", "b"], ["c"], ["d"]]
    assert split(specs, 36) == [["a", "b", "c", "d"]]


@pytest.mark.parametrize("config", SHAPES.values(), ids=list(SHAPES))
def test_a_streamed_model_computes_the_same_and_holds_nothing(
    config: ModelConfig, tmp_path: Path
) -> None:
    model = write(tmp_path, config)
    path = tmp_path / "ours"
    streamed = stream(config, open_safetensors(path), path)
    ids = torch.randint(0, 60, (2, 16))
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(streamed(ids), model(ids))
            assert all(parameter.is_meta for parameter in streamed.parameters())


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def rename(tensors: dict[str, Any]) -> None:
    tensors["model.other.weight"] = tensors.pop(min(tensors))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shards(f)[1].unlink(), r"index\.json: shards missing: model-00002-of-"),
        (
            lambda f: (f / "model-00099-of-00099.safetensors").write_bytes(b""),
            "shards not in the index: model-00099-of-00099",
        ),
        (lambda f: (f / INDEX).unlink(), r"but no model\.safetensors\.index\.json"),
        (lambda f: (f / INDEX).write_text("{}"), r"index\.json: no weight_map"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), r"both model\.safetensors and"),
        (
            lambda f: shards(f)[1].write_bytes(shards(f)[1].read_bytes()[:-4]),
            "model-00002-of-.*truncated",
        ),
        (
            lambda f: rewrite(shards(f)[0], lambda t: t.pop(min(t))),
            "model-00001-of-.*lacks tensors of the index: model.",
        ),
        (
            lambda f: rewrite(shards(f)[0], lambda t: t.update(more=torch.ones(1))),
            "model-00001-of-.*does not place there: more",
        ),
        (
            lambda f: rewrite(shards(f)[0], rename),
            r"model-00001-of-.*lacks tensors of the index: model\.",
        ),
        (
            lambda f: (f / INDEX).write_text(
                (f / INDEX).read_text().replace("model-00001-of", "../model-00001-of")
            ),
            "expected names of files beside it",
        ),
    ],
)
def test_what_is_not_as_the_index_says_is_refused_by_name(
    damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path, SHAPES["olmo2"], max_shard_bytes=10_000)
    damage(tmp_path)
    for load in (load_exported, load_pretrained):
        with pytest.raises(InputError, match=message):
            load(tmp_path, CPU)


def test_a_changed_byte_is_found_and_its_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, SHAPES["olmo2"], max_shard_bytes=10_000)
    before = weights_sha256(tmp_path)
    shard = shards(tmp_path)[2]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert open_weights(tmp_path).keys()  # it is a whole file: only its digest tells
    with pytest.raises(InputError, match=r"model-00003-of-\d+\.safetensors: sha256"):
        weights_sha256(tmp_path)
    content[-1] ^= 1
    shard.write_bytes(content)
    assert weights_sha256(tmp_path) == before
