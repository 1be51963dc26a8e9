"""Finished runs made up on the disk, as jobs leave them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.config.load import parse, to_dict
from olmo_core.config.train import TrainConfig, build_train_config

TINY: dict[str, Any] = {
    "model": {
        "d_model": 16,
        "n_heads": 2,
        "n_layers": 2,
        "mlp_hidden_size": 64,
        "max_sequence_length": 32,
        "vocab_size": 64,
        "embedding_size": 64,
        "rope": True,
        "include_bias": False,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "bias_for_layer_norm": False,
        "weight_tying": False,
        "eos_token_id": 0,
        "pad_token_id": 1,
    },
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    "scheduler": {"name": "cosine_with_warmup", "t_warmup": 10, "alpha_f": 0.1},
    "max_duration": 100,
    "stop_at": 100,
    "global_train_batch_size": 8,
    "device_train_microbatch_size": 8,
    "precision": "fp32",
    "save_interval": 40,
    "no_pre_train_checkpoint": True,
}

Write = Callable[..., Path]


def train_config(**changes: Any) -> TrainConfig:
    """Return a small training configuration."""
    tree = parse(yaml.safe_dump({**TINY, **changes}), file="stage1.yaml")
    return build_train_config(tree)[0]


def write_result(
    root: Path,
    name: str,
    *,
    module: str,
    config: Mapping[str, Any],
    numbers: Mapping[str, Any],
    work_seconds: float,
    inputs: Mapping[str, str] | None = None,
    start_seconds: float = 1.0,
    memory_bytes: int = 10**8,
    devices: int = 1,
    threads: int = 2,
    size: int = 1000,
    device: str = "cpu",
    energy_source: str | None = None,
    finished: float = 100.0,
) -> Path:
    """Write a finished run, `<recipe>/<asset>/<version>`; `inputs` are names of others.

    Of a sweep `<recipe>/<asset>/<partition>/<version>`. An input is called as its value says, else
    after its asset.
    """
    folder = root / name
    folder.mkdir(parents=True)
    asset = Path(name).parts[1]
    entries = {
        called or Path(each).parts[1]: {"root": "own", "path": each}
        for each, called in (inputs or {}).items()
    }
    launch = {
        "schema_version": 1,
        "engine": "local",
        "asset": asset,
        "parts": {"module": module, "config": dict(config)},
        "run": {"nodes": 1, "processes_per_node": 1, "workers": 0, "threads": threads},
        "place": {"devices": devices},
    }
    result = {
        "schema_version": 1,
        "asset": asset,
        "attempt": 1,
        "submitted": finished - work_seconds - start_seconds,
        "started": finished - work_seconds - start_seconds,
        "finished": finished,
        "device": device,
        "start_seconds": start_seconds,
        "work_seconds": work_seconds,
        "peak_memory_bytes": memory_bytes,
        "inputs": entries,
        "report": {
            "numbers": dict(numbers),
            "data": {"energy_source": energy_source, "first_step": 0},
        },
        "files": {"output": {"bytes": size, "sha256": ""}},
    }
    (folder / "output").write_bytes(b"x" * size)
    (folder / "launch.json").write_text(json.dumps(launch))
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return folder


def write_training(
    root: Path,
    name: str,
    config: TrainConfig,
    *,
    step_seconds: float,
    overhead: float = 5.0,
    steps: int = 100,
    **others: Any,
) -> Path:
    """Write a finished training run whose steps all took equally long."""
    folder = write_result(
        root,
        name,
        module="olmo_core.train",
        config=to_dict(config),
        numbers={"steps": steps, "parameters": 1, **others.pop("numbers", {})},
        work_seconds=overhead - 1.0 + steps * step_seconds,
        **others,
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    rows = [
        {"step": step, "attempt": 1, "time": step * step_seconds, "train/masked_instances": 0}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"
