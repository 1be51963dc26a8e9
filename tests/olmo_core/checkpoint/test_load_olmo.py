"""Training can start from an unsharded checkpoint of OLMo's, and from none that does not fit."""

import base64
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from olmo_core.checkpoint.olmo_source import read_flat
from olmo_core.checkpoint.state import state_of
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from tests.olmo_core.checkpoint import olmo_writer
from tests.olmo_core.checkpoint.models import (
    LOADED,
    OLMO2_GROUPED,
    fresh,
    opened,
    position,
    same_logits,
    write_olmo,
)


@pytest.mark.parametrize("config", LOADED.values(), ids=list(LOADED))
@pytest.mark.parametrize(("form", "numbered"), [("pt", True), ("pt", False), ("safetensors", True)])
def test_an_unsharded_checkpoint_of_olmo_s(
    config: ModelConfig, form: Literal["pt", "safetensors"], numbered: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "step7-unsharded"
    other, moments = write_olmo(folder, config, form, numbered=numbered)
    source = opened(folder, config)
    assert source.identify()["step"] == 7
    stood = position(source)
    assert (stood.step, stood.tokens, stood.examples) == (7, 7000, 56)
    assert stood.order == {"algorithm": "olmo", "seed": 6198, "global_batch_size": 8}
    model, optimizer = fresh(config)
    source.load(state_of(model, optimizer.state))
    assert same_logits(model, other)
    layer = model.blocks[1]
    for ours, name in (
        (layer.attention.w_k, "model.layers.1.self_attn.k_proj.weight"),
        (layer.feed_forward.w1, "model.layers.1.mlp.gate_proj.weight"),
        (layer.feed_forward.w3, "model.layers.1.mlp.up_proj.weight"),
        (layer.feed_forward.w2, "model.layers.1.mlp.down_proj.weight"),
        (model.embeddings, "model.embed_tokens.weight"),
    ):
        state = optimizer.state[ours.weight]
        assert torch.equal(state["exp_avg"], moments[name]["exp_avg"])
        assert torch.equal(state["exp_avg_sq"], moments[name]["exp_avg_sq"])
        assert state["step"] == 7


class Arbitrary:
    """An object whose unpickling would run code of a file's choice."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("run",)


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_no_code_of_a_file_is_run(
    form: Literal["pt", "safetensors"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "step7-unsharded"
    write_olmo(folder, OLMO2_GROUPED, form, change=lambda _, __, values: values.update(x=1))
    if form == "pt":
        torch.save({"transformer.wte.weight": Arbitrary()}, folder / "model.pt")
    else:
        content = olmo_writer.encoded({"transformer.wte.weight": Arbitrary()})
        olmo_writer.save_file(content, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.{form}: "):
        opened(folder, OLMO2_GROUPED).load(state_of(fresh(OLMO2_GROUPED)[0], None))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "key",
    [
        b"N}b.",  # AttributeError: None has no __dict__
        pickle.dumps(((), False)),  # IndexError: there is no outermost key
        pickle.dumps(7),  # TypeError
    ],
)
def test_a_made_up_key_is_named(key: bytes, tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    name = base64.urlsafe_b64encode(key).decode()
    olmo_writer.save_file({name: torch.ones(1)}, path)
    with pytest.raises(InputError, match=rf"train\.safetensors: '{name}': "):
        read_flat(path, only=("global_step",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, m, c: w.update(other=w.pop("transformer.ln_f.weight")) or m.update(other={}),
         r"4 missing tensors: model\.norm\.weight"),
        (lambda w, m, c: w.update(bias=torch.ones(1)) or m.update(bias={}),
         r"1 unexpected tensors: model\.bias"),
        (lambda w, m, c: m["transformer.wte.weight"].pop("exp_avg"),
         r"1 missing tensors: optim\.embeddings\.weight\.exp_avg"),
        (lambda w, m, c: c["model"].update(n_heads=2), r"yaml: .*\.n_heads is 2 there, 4 in"),
        (lambda w, m, c: c["model"].update(clip_qkv=8.0), r"clip_qkv is 8\.0 there, None in"),
        (lambda w, m, c: c["model"].update(layer_norm_eps="1e-5"), "layer_norm_eps is 1e-05 there"),
    ],
)  # fmt: skip
def test_one_of_olmo_s_that_does_not_fit(
    change: Callable[..., Any], message: str, tmp_path: Path
) -> None:
    write_olmo(tmp_path / "step7-unsharded", OLMO2_GROUPED, change=change)
    model, optimizer = fresh(OLMO2_GROUPED)
    before = model.norm.weight.clone()
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "step7-unsharded", OLMO2_GROUPED).load(state_of(model, optimizer.state))
    assert torch.equal(before, model.norm.weight)
