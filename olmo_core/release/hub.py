"""Folders that `from_pretrained` loads, and the hub's own layout of them on disk.

The layout lets `from_pretrained(NAME, revision=…)` work without a network:
`<hub>/models--ORG--NAME/snapshots/<id>/<files>` and `refs/<revision>` holding `<id>`; used with
HF_HOME (its `hub` folder), HF_HUB_CACHE or `cache_dir=`. Files are hard links to those of the
export.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.huggingface import Dtype, convert_weights, huggingface_config
from olmo_core.checkpoint.weights import CONFIG, WEIGHTS, read_model
from olmo_core.config.load import load
from olmo_core.errors import ConfigError
from olmo_core.files import PARTIAL, fsync, fsync_tree, read_json, sha256_file, write_atomic
from olmo_core.run.folder import RunFolder

TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def token_label(tokens: int) -> str:
    """Return a number of tokens, rounded up in the largest unit that it fills: 4001B, 12M, 640K.

    AI2 names revisions like this, always in B; small runs would all be called 1B that way.
    """
    for size, unit in UNITS:
        if tokens >= size:
            return f"{math.ceil(tokens / size)}{unit}"
    return str(tokens)


def revision_name(model: str, step: int | None, tokens: int | None, *, final: bool = False) -> str:
    """Return a model's revision: AI2's `stage1-step{N}-tokens{T}B`; `main` for the final model.

    `stage2_ingredient3` becomes `stage2-ingredient3-step{N}-tokens{T}`.
    """
    if final:
        return "main"
    name = model.replace("_", "-")
    if step is not None:
        name += f"-step{step}"
    return name if tokens is None else f"{name}-tokens{token_label(tokens)}"


def link_revisions(hub: Path, repository: str, folders: Mapping[str, Path]) -> None:
    """Lay out `repository` below `hub`, with one revision per export folder.

    Args:
        hub: The cache folder.
        repository: ORGANISATION/NAME.
        folders: Revision -> folder of files.
    """
    home = hub / f"models--{repository.replace('/', '--')}"
    for revision, folder in folders.items():
        files = sorted(path for path in folder.iterdir() if path.is_file())
        lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in files)
        commit = hashlib.sha256(lines.encode()).hexdigest()[:40]  # as long as a git commit
        snapshot = home / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in files:
            if not (snapshot / path.name).exists():
                os.link(path, snapshot / path.name)
        write_atomic(home / "refs" / revision, commit)


def write_export(
    model: Path,
    tokenizer: Path,
    target: Path,
    *,
    dtype: Dtype = "float32",
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write one Hugging Face folder; it has its name only once it is whole.

    Args:
        model: A model folder of ours (`model.safetensors`, `config.yaml`).
        tokenizer: The tokenizer's run folder.
        target: The folder to write, made here.
        dtype: Of the weights written.
        max_shard_bytes: Bytes of weights in a file.

    Raises:
        InputError: the weights do not fit the configuration.
        ConfigError: the model has no Hugging Face form, or the vocabulary does not fit it.
    """
    config = read_model(load(model / CONFIG), str(model / CONFIG))
    facts = RunFolder(tokenizer).read_result()["report"]["data"]
    if facts["vocab_size"] > config.padded_vocab_size:
        raise ConfigError(
            f"model.embedding_size: {config.padded_vocab_size} rows for "
            f"{facts['vocab_size']} tokens"
        )
    special = {key: facts.get(key) for key in ("eos_token_id", "pad_token_id", "bos_token_id")}
    given = {key: number for key, number in special.items() if number is not None}
    beside = target.with_name(target.name + PARTIAL)
    for old in (beside, target):  # of an attempt that was killed
        if old.exists():
            shutil.rmtree(old)
    beside.mkdir(parents=True)
    convert_weights(model / WEIGHTS, beside, config, dtype=dtype, max_shard_bytes=max_shard_bytes)
    _write_json(beside / "config.json", huggingface_config(config, **special, dtype=dtype))
    _write_json(beside / "generation_config.json", {"do_sample": False, **given})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, beside / name)
    # Without it transformers takes 10^30 for the longest input, and truncates nothing.
    context = {"model_max_length": config.max_sequence_length}
    _write_json(beside / TOKENIZER_CONFIG, read_json(tokenizer / TOKENIZER_CONFIG) | context)
    fsync_tree(beside)
    beside.rename(target)
    fsync(target.parent)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
