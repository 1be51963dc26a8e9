"""Write a model folder of ours as a folder that `from_pretrained` loads; free of torch."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.huggingface import convert_file, huggingface_config
from olmo_core.config.load import build, load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_atomic
from olmo_core.run.folder import RunFolder

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def write_export(model: Path, tokenizer: Path, target: Path) -> None:
    """Write one Hugging Face folder.

    Args:
        model: A model folder of ours (`model.safetensors`, `config.yaml`).
        tokenizer: The tokenizer's run folder.
        target: The folder to write, made here.

    Raises:
        InputError: the weights do not fit the configuration.
        ConfigError: the model has no Hugging Face form, or the vocabulary does not fit it.
    """
    config = read_model_config(model)
    facts = RunFolder(tokenizer).read_result()["report"]["data"]
    if facts["vocab_size"] > config.padded_vocab_size:
        raise ConfigError(
            f"model.embedding_size: {config.padded_vocab_size} rows for "
            f"{facts['vocab_size']} tokens"
        )
    special = {"eos_token_id": facts["eos_token_id"], "pad_token_id": facts["pad_token_id"]}
    target.mkdir(parents=True, exist_ok=True)
    convert_file(model / "model.safetensors", target / "model.safetensors", config)
    _write_json(target / "config.json", huggingface_config(config, **special))
    _write_json(target / "generation_config.json", {"do_sample": False, **special})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, target / name)


def read_model_config(folder: Path) -> ModelConfig:
    """The `model` section of a model folder's `config.yaml`."""
    tree = load(folder / "config.yaml")
    if not isinstance(tree.get("model"), Mapping):
        raise InputError(f"{folder / 'config.yaml'}: no section `model`")
    return build(ModelConfig, tree["model"], where="model")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
