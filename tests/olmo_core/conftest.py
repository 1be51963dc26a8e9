"""A small model family on the disk, as finished run folders: made once for all tests."""

import gzip
import inspect
import json
import pydoc_data.topics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from olmo_core.checkpoint import soup
from olmo_core.checkpoint.weights import save_model
from olmo_core.config.load import to_dict
from olmo_core.config.model import ModelConfig
from olmo_core.config.release import ExportConfig, SoupConfig
from olmo_core.data.format import Header
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.files import sha256_file, write_json
from olmo_core.model.transformer import Transformer
from olmo_core.run.job import Job, Report

TEXT = [
    "A language model gives each next token a probability, and the text the product of them.",
    "def mean(values):\n    return sum(values) / len(values)  # naïve: no check of the length\n",
    "Permission is hereby granted, free of charge, to any person obtaining a copy — ” “.",
    "Question: Which of these is a plant?\nAnswer: an oak, since it grows and has leaves.",
]
OLMO2 = {
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 96,
    "layer_norm_type": "rms",
    "layer_norm_eps": 1e-6,
    "attention_layer_norm": True,
    "norm_after": True,
    "rope": True,
    "rope_theta": 500_000,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
    "max_sequence_length": 64,
    "vocab_size": 400,
    "embedding_size": 448,
    "weight_tying": False,
}


@dataclass(frozen=True)
class Family:
    """Run folders of a finished main line."""

    root: Path
    runs: Mapping[str, Path]

    def new(self, asset: str) -> Path:
        """A fresh run folder."""
        folder = self.root / "recipe" / asset
        return folder / f"{len(list(folder.glob('*'))):012d}"


def run_in(folder: Path, make: Callable[..., Report], config: Any, inputs: Any) -> Path:
    """Run a job in this process."""
    with Job.open(folder) as job:
        job.finish(make(config, inputs, job))
    return folder


def finished(
    folder: Path, data: Mapping[str, Any], inputs: Sequence[str] = (), **report: Any
) -> Path:
    """Mark a folder as a finished run that reported `data`, made from `inputs`."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "schema_version": 1,
        "inputs": {name: {} for name in inputs},
        "report": {"data": data, **report},
    }
    write_json(folder / "result.json", result)
    return folder


def random_model(config: ModelConfig, seed: int) -> Transformer:
    """A model whose every weight is random, the norms' too."""
    torch.manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Large enough for logits that differ, and a spread of next tokens.
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return model


def write_trained(
    folder: Path, config: ModelConfig, mix: Path, *, seed: int, step: int, tokens: int
) -> Path:
    """A finished training run with random weights."""
    save_model(
        folder / "model",
        random_model(config, seed),
        {"model": to_dict(config), "seed": seed, "max_duration": step},
    )
    parent = {"model_sha256": "0" * 64}
    manifest = Manifest.read(mix / "manifest.json", root=mix)
    order = {
        "algorithm": "feistel",
        "version": 1,
        "seed": seed,
        "first_epoch": 0,
        "windows": manifest.tokens // 64,
        "sequence_length": 64,
        "global_batch_size": 2,
        "manifest_sha256": manifest.sha256,
    }
    data = {"step": step, "first_step": 0, "tokens": tokens, "parent": parent, "order": order}
    return finished(folder, data, inputs=["stage1_mix"])


def write_tokenizer(folder: Path) -> Path:
    """A byte-level BPE of 400 entries, as the asset `tokenizer` leaves it."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXT, pydoc_data.topics.topics["class"]], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", **special},
    )
    write_json(folder / "special_tokens_map.json", special)
    return finished(
        folder,
        {
            "vocab_size": tokenizer.get_vocab_size(),
            "eos_token_id": 0,
            "pad_token_id": 1,
            "sha256": sha256_file(folder / "tokenizer.json"),
        },
    )


def write_held_out(folder: Path) -> Path:
    """Three sources, one of them with two subdomains; documents longer than a window too."""
    # Not one text again and again: with equal windows in a batch, lm-eval's own cache of logits
    # takes those of one split for the other's.
    documents = [
        ("prose", None, pydoc_data.topics.topics["exprlists"][:1200]),
        ("prose", None, TEXT[3]),
        ("code", "python", inspect.getsource(json.JSONEncoder.default)),
        ("code", "other", TEXT[1].replace("mean", "m")),
        ("licences", None, TEXT[2]),
    ]
    for number, (source, subdomain, text) in enumerate(documents):
        path = folder / "paloma" / source / "val" / "part-0.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"id": f"{source}/{number}", "text": text, "added": "", "source": source}
        if subdomain:
            row["subdomain"] = subdomain
        with gzip.open(path, "at", encoding="utf-8") as lines:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return finished(folder, {})


def write_tokens(folder: Path, mix: Path, tokenizer: Path) -> None:
    """A token file and the manifest of a mix over it."""
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ids = np.array([i for text in TEXT * 3 for i in [*encoder.encode(text).ids, 0]], "<u2")
    path = folder / "tokens" / "prose" / "part-0-00000.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(ids.tobytes())
    header = Header(
        dtype="uint16",
        tokens=len(ids),
        documents=len(TEXT) * 3,
        vocab_size=400,
        tokenizer_sha256=sha256_file(tokenizer / "tokenizer.json"),
        eos_token_id=0,
    )
    write_json(path.with_suffix(".json"), header.to_dict())
    sources = {"sources": [{"source": "prose", "documents": 12, "tokens": len(ids)}]}
    finished(folder, {}, tables=sources)
    stream = Stream(
        name="prose",
        ranges=(Range(path=str(path.relative_to(folder)), start=0, stop=len(ids)),),
    )
    mix.mkdir(parents=True)
    Manifest(
        dtype="uint16",
        streams=(stream,),
        root=folder,
        vocab_size=400,
        tokenizer_sha256=header.tokenizer_sha256,
        eos_token_id=0,
    ).write(mix / "manifest.json")
    finished(mix, {}, tables=sources)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Tokenizer, tokens, held-out set, stage 1, two ingredients, their soup, and the export."""
    from olmo_core.release import export

    root = tmp_path_factory.mktemp("root")
    config = ModelConfig(**OLMO2)
    recipe = root / "recipe"
    runs = {
        name: recipe / name / f"{0:012d}"
        for name in (
            *("tokenizer", "tokens", "stage1_mix", "held_out", "stage1"),
            *("stage2_ingredient1", "stage2_ingredient2", "soup", "export"),
        )
    }
    write_tokenizer(runs["tokenizer"])
    write_held_out(runs["held_out"])
    write_tokens(runs["tokens"], runs["stage1_mix"], runs["tokenizer"])
    write_trained(runs["stage1"], config, runs["stage1_mix"], seed=1, step=100, tokens=6_400_000)
    ingredients = {f"stage2_ingredient{k}": runs[f"stage2_ingredient{k}"] for k in (1, 2)}
    for seed, folder in enumerate(ingredients.values(), start=2):
        write_trained(folder, config, runs["stage1_mix"], seed=seed, step=10, tokens=640_000)
    run_in(runs["soup"], soup.make, SoupConfig(), ingredients)
    run_in(
        runs["export"],
        export.make,
        ExportConfig(
            repository="someone/tiny",
            parity_sequence_length=48,
            sample_prompts=("A language",),
            sample_tokens=4,
        ),
        {name: runs[name] for name in ("stage1", *ingredients, "soup", "tokenizer")},
    )
    return Family(root, runs)
