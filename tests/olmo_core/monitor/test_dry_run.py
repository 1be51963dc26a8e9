"""The dry run's figures: published rates and counts, steps with and without data, memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from olmo_core.config.duration import Duration
from olmo_core.config.load import parse
from olmo_core.config.model import count_parameters
from olmo_core.config.train import TrainConfig, build_train_config
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer
from olmo_core.monitor.dry_run import plan
from olmo_core.monitor.memory import memory_per_device
from olmo_core.train.__main__ import main

SMALL: dict[str, Any] = {
    "d_model": 64,
    "n_heads": 4,
    "n_layers": 4,
    "mlp_hidden_size": 256,
    "weight_tying": False,
    "rope": True,
    "include_bias": False,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "max_sequence_length": 128,
    "vocab_size": 500,
    "embedding_size": 512,
}
OLMO1 = {"layer_norm_with_affine": False}
OLMO2 = {"layer_norm_type": "rms", "attention_layer_norm": True, "norm_after": True}


def configuration(model: dict[str, Any] | None = None, **keys: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "model": {**SMALL, **(model or OLMO2)},
        "optimizer": {"name": "adamw"},
        "precision": "fp32",
        "dry_run": True,
        "global_train_batch_size": 8,
        "device_train_microbatch_size": 2,
        **keys,
    }
    return build_train_config(parse(json.dumps(values), file="test.yaml"))[0]


def test_json_is_alone_on_standard_output_and_keys_passed_over_are_listed_once(
    config_file: Path, tmp_path: Path
) -> None:
    text = config_file.read_text() + "eval_interval: ${save_interval}\nfused_loss: true\n"
    (tmp_path / "official.yaml").write_text(text + "load_path: ${path.last_checkpoint:/no}\n")
    no_torch = "import sys; sys.modules['torch'] = None; from olmo_core.train import __main__; "
    arguments = [str(tmp_path / "official.yaml"), "--dry_run", "--json", "data.paths=null"]
    done = subprocess.run(
        [sys.executable, "-c", f"{no_torch}__main__.main({arguments!r})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout)) == {
        "config",
        "parameters",
        "tokens_per_step",
        "max_steps",
        "learning_rate",
        "memory_bytes_per_device",
        "flops_per_token",
    }
    assert done.stderr.count("fused_loss") == 1
    assert json.loads(done.stdout)["config"]["eval_interval"] == 4
    assert "is left as it is written: a dry run looks at no disk" in done.stderr


def test_epochs_without_data_have_a_reason_and_the_rates_that_can_be_known() -> None:
    planned = plan(configuration(max_duration="2ep"))
    assert planned["max_steps"] is None
    assert "data.paths" in planned["max_steps_reason"]
    assert planned["learning_rate"] == {}
    ended = configuration(max_duration="2ep", scheduler={"t_max": 1000, "t_warmup": 10})
    assert plan(ended, [1000])["learning_rate"]["1000"] == pytest.approx(1e-5)
    endless = {"name": "constant_with_warmup", "t_warmup": 10}
    assert plan(configuration(max_duration="2ep", scheduler=endless))["learning_rate"] == {
        "1": pytest.approx(1.9e-5),
        "2": pytest.approx(2.8e-5),
        "5": pytest.approx(5.5e-5),
        "7": pytest.approx(7.3e-5),
        "10": pytest.approx(1e-4),
    }
    for paths, reason in (
        (["https://example.org/a.npy"], "https://example.org/a.npy lies elsewhere"),
        (["/no/b.npy"], "/no/b.npy is not there"),
    ):
        elsewhere = configuration(max_duration="1ep", data={"paths": paths})
        assert reason in plan(elsewhere)["max_steps_reason"]


def test_epochs_of_data_at_hand_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path, tokens in zip(paths, (128 * 20 + 100, 128 * 5), strict=True):  # 20 and 5 windows
        np.arange(tokens, dtype=np.uint16).tofile(path)
    given: dict[str, Any] = {"max_duration": "2ep", "data": {"paths": list(map(str, paths))}}
    planned = plan(configuration(**given, scheduler={"t_warmup": 5}))
    assert planned["max_steps"] == 2 * (25 // 8)
    assert "max_steps_reason" not in planned
    assert list(planned["learning_rate"]) == ["1", "3", "4", "6"]


def test_a_warm_up_longer_than_the_epochs_at_hand_is_refused(tmp_path: Path) -> None:
    np.arange(128 * 24, dtype=np.uint16).tofile(tmp_path / "a.npy")
    config = configuration(max_duration="1ep", data={"paths": [str(tmp_path / "a.npy")]})
    with pytest.raises(ConfigError, match=r"scheduler\.t_warmup is 100 steps, .* ends at 3:"):
        plan(config)


def test_steps_that_nobody_takes_are_doubted() -> None:
    doubt = plan(configuration(max_duration="2e9"))["max_steps_doubt"]
    assert "2,000,000,000 of them, 2.048e+12 tokens; 2e+09T would mean tokens" in doubt
    assert "max_steps_doubt" not in plan(configuration(max_duration="2e9T"))
    assert "max_steps_doubt" not in plan(configuration(max_duration=739_328))
    assert Duration.parse(1000).doubt(1024, 20) is None
    said = Duration.parse(5000).doubt(1024, 20)
    assert said is not None
    assert "250 times the data" in said


def test_a_template_without_a_duration_is_planned() -> None:
    assert "max_duration is null" in plan(configuration(max_duration=None))["max_steps_reason"]


@pytest.mark.parametrize(("devices", "message"), [(3, "does not divide by 3"), (0, "at least 1")])
def test_devices_that_cannot_be_are_refused(devices: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(configuration(), devices=devices)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_WORLD_SIZE"])
def test_an_environment_that_names_no_number_of_devices_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "two")
    with pytest.raises(ConfigError, match=f"environment: {name} is 'two'; expected a whole number"):
        plan(configuration())


def test_memory_is_told_in_a_unit_of_its_size(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(config_file), "--dry_run"])
    assert "MiB on 1 device (weights 0.04 " in capsys.readouterr().out
    main([str(config_file), "--dry_run", "model.d_model=4096", "model.embedding_size=50000"])
    assert "GiB on 1 device (weights" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stop_at", "said", "steps"),
    [("null", "12 (3,072 tokens), and 10 more", 22), ("5", "12 (3,072 tokens), stops at 5", 5)],
)
def test_what_is_computed_in_all_goes_to_the_step_that_the_run_ends_with(
    config_file: Path, capsys: pytest.CaptureFixture[str], stop_at: str, said: str, steps: int
) -> None:
    main([str(config_file), "--dry_run", f"stop_at={stop_at}"])
    text = capsys.readouterr().out
    assert f"steps              {said}" in text
    a_token, in_all = (float(text.split(key)[1].split()[0]) for key in ("per token ", "in all "))
    assert in_all == pytest.approx(a_token * steps * 256, rel=1e-3)


def test_the_text_is_for_people(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(config_file), "--dry_run", "--devices=2", "--lr_at=3"])
    text = capsys.readouterr().out
    for line in ("parameters         9,360", "memory per device", "on 2 devices", "at step 3"):
        assert line in text


@pytest.mark.parametrize("model", [OLMO1, OLMO2, {**OLMO2, "n_kv_heads": 1}])
@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_activations_are_what_autograd_saves(model: dict[str, Any], precision: str) -> None:
    """Every tensor that the layers save for backward, counted once, but for weights."""
    config = configuration(model, precision=precision)
    transformer = Transformer(config.model)
    tables = set(transformer.parameters())
    shapes = {tuple(p.shape) for p in tables} | {tuple(p.shape)[::-1] for p in tables}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in shapes:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "amp_bf16"),
    ):
        hidden = transformer.hidden(torch.zeros(2, 128, dtype=torch.int64))
    measured = sum(storage.nbytes() for storage in saved.values())
    counted = memory_per_device(config, devices=1, devices_per_node=1).activations
    assert hidden.requires_grad
    assert 0.9 < measured / counted < 1.1


def memory(**keys: Any):
    devices = keys.pop("devices", 1)
    config = configuration(precision="amp_bf16", **keys)
    return memory_per_device(config, devices=devices, devices_per_node=2)


def test_what_is_kept_is_shared_out_by_the_strategy() -> None:
    whole = 4 * count_parameters(configuration().model).total
    alone = memory()
    assert (alone.weights, alone.gradients, alone.moments) == (whole, whole, 2 * whole)
    assert alone.working_weights == whole // 2  # bfloat16 copies
    assert memory(devices=4, distributed_strategy="ddp").weights == whole
    sharded = memory(devices=4, device_train_microbatch_size=2)
    assert (sharded.weights, sharded.gradients, sharded.moments) == tuple(
        part * -(-(whole // 4) // 4) for part in (4, 4, 8)
    )
    summing = memory(devices=4, device_train_microbatch_size=1)
    assert summing.gradients == sharded.gradients + whole
    at_once = memory(
        devices=4, device_train_microbatch_size=1, core={"reduce_every_microbatch": True}
    )
    assert at_once.gradients == sharded.gradients
    hybrid = memory(devices=4, fsdp={"sharding_strategy": "HYBRID_SHARD"})
    assert hybrid.weights == 4 * -(-(whole // 4) // 2)  # two nodes of two devices
    assert memory(devices=4, fsdp={"sharding_strategy": "NO_SHARD"}).weights == whole
    kept = memory(devices=4, fsdp={"sharding_strategy": "SHARD_GRAD_OP"})
    assert kept.working_weights == whole // 2 > sharded.working_weights


def test_checkpointing_and_the_microbatch_shrink_the_activations() -> None:
    all_of = [
        memory(model={**OLMO2, "n_layers": 16}, activation_checkpointing=strategy).activations
        for strategy in (None, "one_in_four", "one_in_two", "three_in_four", "whole_layer")
    ]
    assert all_of == sorted(all_of, reverse=True)
    assert all_of[-1] < 0.4 * all_of[0]
    fine = memory(model={**OLMO2, "n_layers": 16}, activation_checkpointing="fine_grained")
    assert all_of[-1] < fine.activations < all_of[0]
    assert memory(device_train_microbatch_size=4).activations == 2 * memory().activations
