"""What training can start from: every format, here and elsewhere, and nothing that does not fit."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.olmo import OlmoConfig, OlmoForCausalLM
from transformers.models.olmo2 import Olmo2Config, Olmo2ForCausalLM

from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.checkpoint.load import resolve
from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.source import Source
from olmo_core.checkpoint.weights import save_model
from olmo_core.config.load import to_dict
from olmo_core.config.model import ModelConfig
from olmo_core.model.transformer import Transformer
from olmo_core.run import remote
from olmo_core.run.job import InputError
from tests.olmo_core.checkpoint import olmo_writer
from tests.olmo_core.checkpoint.ranks import ALONE
from tests.olmo_core.file_server import FileServer, serving

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
OLMO2 = ModelConfig(
    **COMMON,
    n_kv_heads=2,
    layer_norm_type="rms",
    layer_norm_eps=1e-6,
    attention_layer_norm=True,
    norm_after=True,
    rope_theta=500_000,
    weight_tying=False,
)
OLMO1_TIED = ModelConfig(**COMMON, layer_norm_with_affine=False, weight_tying=True, clip_qkv=2.0)
MODELS = {"olmo2, grouped queries": OLMO2, "olmo1, tied": OLMO1_TIED}
each_model = pytest.mark.parametrize("config", MODELS.values(), ids=list(MODELS))


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
    if config is OLMO2:
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


def fresh(config: ModelConfig) -> tuple[Any, Any]:
    model = Transformer(config)
    return model, torch.optim.AdamW(model.parameters(), fused=True)


def same_logits(ours: Transformer, other: Any) -> bool:
    ids = torch.randint(0, 60, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: Tensor = ours(ids)
        return torch.allclose(found, other(ids).logits, rtol=1e-4, atol=1e-5)


@each_model
@pytest.mark.parametrize("shard", ["10KB", "1GB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hugging_face_folder(
    config: ModelConfig, shard: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    other = theirs(config).to(dtype)
    other.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "1GB")
    source = opened(tmp_path, config)
    assert not source.has_training_state
    model, _ = fresh(config)
    source.load(model, None)
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
        (lambda f: os.truncate(f / "model.safetensors", 9000), "model.safetensors: not a whole"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors.index.json"),
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
    theirs(OLMO2).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        opened(tmp_path, OLMO2).load(fresh(OLMO2)[0], None)
    assert str(tmp_path) in str(error.value)


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
    section = {
        "n_heads": 4,
        "n_kv_heads": config.n_kv_heads,
        "norm_after": config.norm_after,
        "layer_norm_type": config.layer_norm_type,
        "layer_norm_eps": "1e-6" if config is OLMO2 else 1e-5,
        "rope_theta": config.rope_theta,
        "clip_qkv": config.clip_qkv,
    }
    values = {"seed": 6198, "global_train_batch_size": 8, "model": section, "data": {}}
    if change is not None:
        change(fused, state, values)
    olmo_writer.write(
        folder, values, fused, state, step=7, examples=56, form=form, numbered=numbered
    )
    return other, moments


@each_model
@pytest.mark.parametrize(("form", "numbered"), [("pt", True), ("pt", False), ("safetensors", True)])
def test_an_unsharded_checkpoint_of_olmo_s(
    config: ModelConfig, form: Literal["pt", "safetensors"], numbered: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "step7-unsharded"
    other, moments = write_olmo(folder, config, form, numbered=numbered)
    source = opened(folder, config)
    assert source.has_training_state
    assert source.identify()["step"] == 7
    position = source.position()
    assert (position.step, position.tokens, position.examples) == (7, 7000, 56)
    assert position.order == {"algorithm": "olmo", "seed": 6198, "global_batch_size": 8}
    model, optimizer = fresh(config)
    source.load(model, optimizer)
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
    write_olmo(folder, OLMO2, form, change=lambda _, __, values: values.update(x=1))
    if form == "pt":
        torch.save({"transformer.wte.weight": Arbitrary()}, folder / "model.pt")
    else:
        content = olmo_writer.encoded({"transformer.wte.weight": Arbitrary()})
        olmo_writer.save_file(content, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.{form}: "):
        opened(folder, OLMO2).load(fresh(OLMO2)[0], None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, m, c: w.update(other=w.pop("transformer.ln_f.weight")) or m.update(other={}),
         r"lacks 4 tensors: model\.norm\.weight"),
        (lambda w, m, c: w.update(bias=torch.ones(1)) or m.update(bias={}), "unexpectedly.*bias"),
        (lambda w, m, c: m["transformer.wte.weight"].pop("exp_avg"),
         r"lacks 1 tensors: optim\.embeddings\.weight\.exp_avg"),
        (lambda w, m, c: c["model"].update(n_heads=8), r"config\.yaml: n_heads is 8.* 4 here"),
        (lambda w, m, c: c["model"].update(clip_qkv=8.0), r"clip_qkv is 8\.0 there.* None here"),
        (lambda w, m, c: c["model"].update(layer_norm_eps="1e-5"), "layer_norm_eps is '1e-5'"),
    ],
)  # fmt: skip
def test_one_of_olmo_s_that_does_not_fit(
    change: Callable[..., Any], message: str, tmp_path: Path
) -> None:
    write_olmo(tmp_path / "step7-unsharded", OLMO2, change=change)
    model, optimizer = fresh(OLMO2)
    before = model.norm.weight.clone()
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "step7-unsharded", OLMO2).load(model, optimizer)
    assert torch.equal(before, model.norm.weight)


def test_where_nothing_lies_the_error_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json.*config\.json.*model\.pt.*checkpoints/"):
        opened(tmp_path, OLMO2)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(remote, "PAUSES_SECONDS", (0.0, 0.0))
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as state:
        yield state


def write_own(run: Path, *steps: int) -> Transformer:
    model, optimizer = fresh(OLMO2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    saver = Saver(run, ALONE, asynchronous=False)
    for step in steps:
        train = {"step": step, "tokens": step, "order": {"seed": 1}}
        saver.save(model, optimizer, train, kind="sharded")
    return model


def test_one_of_ours_over_http_is_fetched_by_its_manifest(
    server: FileServer, tmp_path: Path
) -> None:
    original = write_own(server.folder / "run", 4)
    url, cache = f"{server.url}/run/checkpoints/step4", tmp_path / "cache"
    server.faults = ["", "500", "short"]
    source = opened(url, OLMO2, cache)
    assert source.position().step == 4
    assert source.identify()["step"] == 4
    model, optimizer = fresh(OLMO2)
    source.load(model, optimizer)
    for name, parameter in original.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
    asked = [path for path, _ in server.requests]
    assert asked[0].endswith("manifest.json")
    server.requests.clear()
    opened(url, OLMO2, cache)  # from the cache: the manifest's version is all that is asked for
    assert {path for path, _ in server.requests} == {"/run/checkpoints/step4/manifest.json"}


def test_a_damaged_one_over_http_is_refused(server: FileServer, tmp_path: Path) -> None:
    write_own(server.folder / "run", 4)
    shard = server.folder / "run" / "checkpoints" / "step4" / "model_and_optim" / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"__0_0\.distcp: its SHA-256 is"):
        opened(f"{server.url}/run/checkpoints/step4", OLMO2, tmp_path / "cache")


def test_others_over_http(server: FileServer, tmp_path: Path) -> None:
    other = theirs(OLMO2)
    other.save_pretrained(server.folder / "hf", max_shard_size="10KB")
    write_olmo(server.folder / "step7-unsharded", OLMO2, "safetensors")
    for name in ("hf", "step7-unsharded"):
        model, optimizer = fresh(OLMO2)
        source = opened(f"{server.url}/{name}", OLMO2, tmp_path / "cache")
        source.load(model, optimizer if source.has_training_state else None)
        assert same_logits(model, other)
    with pytest.raises(InputError, match=r"no checkpoint there.*cannot be listed over http"):
        opened(f"{server.url}/run", OLMO2, tmp_path / "cache")


def test_a_run_folder_s_newest_is_taken_here_and_by_fsspec(tmp_path: Path) -> None:
    write_own(tmp_path / "run", 4, 12)
    for url in (str(tmp_path / "run"), f"file://{tmp_path}/run"):
        assert opened(url, OLMO2, tmp_path / "cache").position().step == 12


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_of_checkpoints_is_told_from_one(scheme: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    for step in (4, 12, 100):
        (folder / f"step{step}").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        opened(f"{scheme}{folder}/", OLMO2, tmp_path / "cache")
    said = str(error.value)
    assert "holds checkpoints and is none; give one of them (step4, step12, step100)" in said
    assert said.endswith(f"the newest is also found by {scheme}{tmp_path}/run")
    for step in range(200, 208):
        (folder / f"step{step}").mkdir()
    with pytest.raises(InputError, match=r"one of them \(…, step200, .*step207\)$"):
        opened(folder.rename(tmp_path / "some"), OLMO2)


def test_a_damaged_newest_one_of_another_run_is_not_passed_over(tmp_path: Path) -> None:
    write_own(tmp_path / "run", 4, 8, 12)
    for step in (8, 12):
        shard = (
            tmp_path / "run" / "checkpoints" / f"step{step}" / "model_and_optim" / "__0_0.distcp"
        )
        os.truncate(shard, 100)
    with pytest.raises(InputError) as error:
        opened(tmp_path / "run", OLMO2)
    assert f"{shard}: 100 bytes" in str(error.value)
    assert f"the whole one before it is {tmp_path}/run/checkpoints/step4" in str(error.value)
    assert opened(tmp_path / "run" / "checkpoints" / "step4", OLMO2).position().step == 4


def test_each_rank_reads_its_share_and_none_is_left_out(tmp_path: Path) -> None:
    write_own(tmp_path, 4)
    checkpoint = Checkpoint.at(tmp_path / "checkpoints" / "step4")
    checkpoint.verify()
    files = sorted(checkpoint.read_manifest())
    for index, name in enumerate(files):
        os.truncate(checkpoint.path / name, 3)
        for rank in range(2):
            if rank == index % 2:
                with pytest.raises(ValueError, match=name):
                    checkpoint.verify(share=(rank, 2))
        write_own(tmp_path, 4)


def test_a_model_folder_of_ours_as_a_soup_leaves_it(tmp_path: Path) -> None:
    original, _ = fresh(OLMO2)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.normal_()
    save_model(tmp_path / "model", original, {"model": to_dict(OLMO2)})
    source = opened(tmp_path / "model", OLMO2)
    assert not source.has_training_state
    model, _ = fresh(OLMO2)
    source.load(model, None)
    for name, parameter in original.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
