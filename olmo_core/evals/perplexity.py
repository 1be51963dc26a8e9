"""Perplexity of models on held-out documents: one row per (model, domain, metric).

Run as `python -m olmo_core.evals.perplexity RUN_FOLDER/config.yaml`. Our own model is loaded from
the export, so that what is measured is what is released. `olmo_core.evals.paloma` has the
definition.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer

from olmo_core.checkpoint.pretrained import device_for_evaluation, load_exported
from olmo_core.config.evals import PerplexityConfig
from olmo_core.data.manifest import Manifest
from olmo_core.errors import InputError
from olmo_core.evals import unigram
from olmo_core.evals.cache import ScoreCache
from olmo_core.evals.paloma import Document, figure_rows, read_documents
from olmo_core.evals.rows import EvaluatedModel, exported_models, write_rows
from olmo_core.evals.scoring import score_documents
from olmo_core.files import atomic_path, read_json, sha256_file
from olmo_core.run.code import code_digest
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

DEFINITION_VERSION = "1"  # of `paloma`; stands in the rows
# What decides a document's log-likelihood: scores by other code are not taken from the cache.
SCORED_BY = ("olmo_core.evals.scoring", "olmo_core.checkpoint.pretrained")
UNIGRAM = "unigram"


def make(config: PerplexityConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Score every exported model, and a unigram model of the tokens of stage 1."""
    return score_models(
        config,
        exported_models(inputs["export"]),
        inputs["held_out"],
        job,
        mix=Manifest.read(inputs["stage1_mix"] / "manifest.json", root=inputs["tokens"]),
    )


def score_models(
    config: PerplexityConfig,
    models: Sequence[EvaluatedModel],
    held_out: Path,
    job: Job,
    *,
    mix: Manifest | None = None,
) -> Report:
    """Score `models`, write `rows.parquet` and `documents.parquet`, and return the report.

    Args:
        config: The section `perplexity`.
        models: What to score.
        held_out: Run folder with `paloma/<source>/val/*.jsonl.gz`.
        job: The running job.
        mix: Training tokens of the unigram baseline; None: no baseline.
    """
    torch.set_num_threads(1)  # of one batch; batches run beside each other
    documents = read_documents(held_out / "paloma", bytes_per_source=config.bytes_per_source)
    data_sha256 = _digest(documents)
    scored = Scored(config, documents, data_sha256)
    cache = ScoreCache(job.cache / "evals")
    tokenised: dict[str, list[list[int]]] = {}
    for model in models:
        assert model.path is not None
        tokenizer = sha256_file(model.path / "tokenizer.json")
        if tokenizer not in tokenised:
            with job.timed("tokenise"):
                tokenised[tokenizer] = _encode(model.path / "tokenizer.json", documents)
        key = _key(config, model, tokenizer, data_sha256)
        values = cache.get(key)
        if values is None:
            with job.timed(model.model):
                values = _score_model(config, model, tokenised[tokenizer], job)
            cache.put(key, values)
        else:
            scored.cached += 1
        scored.add(model, tokenised[tokenizer], values)
    if mix is not None:
        with job.timed(UNIGRAM):
            scored.add(*_score_unigram(mix, tokenised, job))
    write_rows(job.folder / "rows.parquet", scored.rows)
    with atomic_path(job.folder / "documents.parquet") as beside:
        pq.write_table(pa.Table.from_pylist(scored.documents), beside)
    return scored.report()


class Scored:
    """Collect the rows of all models, and what the report shows of them."""

    def __init__(
        self, config: PerplexityConfig, documents: Sequence[Document], data_sha256: str
    ) -> None:
        self.config = config
        self.texts = documents
        self.data_sha256 = data_sha256
        self.rows: list[dict[str, Any]] = []
        self.documents: list[dict[str, Any]] = []  # one row per (model, document)
        self.cached = 0

    def add(
        self, model: EvaluatedModel, tokens: Sequence[Sequence[int]], values: Sequence[float]
    ) -> None:
        """Add one model's log-likelihood of each document."""
        counts = [len(ids) for ids in tokens]
        facts = {
            "task_version": DEFINITION_VERSION,
            "num_fewshot": 0,
            "limit": self.config.bytes_per_source,
            "split": "val",
            "data_sha256": self.data_sha256,
            "library": f"torch {version('torch')}",
        }
        figures = figure_rows(self.texts, counts, values, name=self.config.name)
        self.rows += [model.row(**facts, **figure) for figure in figures]
        self.documents += [
            {
                "model": model.model,
                "id": text.id,
                "source": text.source,
                "domain": text.domain,
                "tokens": count,
                "bytes": len(text.text.encode()),
                "log_likelihood": value,
            }
            for text, count, value in zip(self.texts, counts, values, strict=True)
        ]

    def report(self) -> Report:
        """Return the overall figures and a table of bits per byte: one row per model, one column
        per source.
        """
        loss: dict[str, float] = {}
        bits: dict[str, dict[str, float]] = {}  # model -> source (or "all") -> bits per byte
        for row in self.rows:
            source = row["task"].partition("/")[2]
            if row["metric"] == "bits_per_byte" and "/" not in source:
                bits.setdefault(row["model"], {})[source or "all"] = row["value"]
            if row["metric"] == "loss" and not source:
                loss[row["model"]] = row["value"]
        table = [
            {
                "model": model,
                "loss": round(loss[model], 4),
                **{source: round(value, 4) for source, value in cells.items()},
            }
            for model, cells in bits.items()
        ]
        return Report(
            numbers={
                "models": len(table),
                "held_out_documents": len(self.texts),
                "held_out_bytes": sum(len(text.text.encode()) for text in self.texts),
                "rows": len(self.rows),
                "scores_from_cache": self.cached,
            },
            tables={"bits_per_byte": table},
            data={"data_sha256": self.data_sha256, "loss": loss, "bits_per_byte": bits},
        )


def _score_model(
    config: PerplexityConfig, model: EvaluatedModel, tokens: Sequence[Sequence[int]], job: Job
) -> list[float]:
    assert model.path is not None
    found = sha256_file(model.path / "model.safetensors")
    if found != model.sha256:
        raise InputError(f"{model.path}/model.safetensors: changed since it was exported")
    job.progress(0, message=f"{model.model}: loading")
    device = device_for_evaluation()
    loaded = load_exported(model.path, device)
    return score_documents(
        loaded,
        tokens,
        eos_token_id=read_json(model.path / "config.json")["eos_token_id"],
        max_window=min(config.max_window, loaded.config.max_sequence_length),
        batch_tokens=config.batch_tokens,
        threads=job.processes if device.type == "cpu" else 1,
        job=job,
        message=model.model,
    )


def _score_unigram(
    manifest: Manifest, tokenised: Mapping[str, Sequence[Sequence[int]]], job: Job
) -> tuple[EvaluatedModel, Sequence[Sequence[int]], list[float]]:
    tokens = tokenised.get(manifest.tokenizer_sha256 or "")
    if tokens is None:
        raise InputError("stage1_mix: its tokens are of another tokenizer than the models'")
    counts = unigram.count_tokens(manifest, job)
    model = EvaluatedModel(
        model=UNIGRAM, revision=None, step=None, tokens=int(counts.sum()), sha256=None
    )
    return model, tokens, unigram.score(tokens, unigram.log_probabilities(counts))


def _encode(path: Path, documents: Sequence[Document]) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(path))
    texts = [document.text for document in documents]
    return [item.ids for item in tokenizer.encode_batch(texts, add_special_tokens=False)]


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(
            json.dumps([document.id, document.source, document.domain, document.text]).encode()
        )
    return digest.hexdigest()


def _key(
    config: PerplexityConfig, model: EvaluatedModel, tokenizer: str, data_sha256: str
) -> dict[str, Any]:
    assert model.path is not None
    return {
        "kind": "perplexity",
        "code": code_digest(*SCORED_BY),
        "model": model.sha256,
        "config": sha256_file(model.path / "config.json"),
        "tokenizer": tokenizer,
        "data": data_sha256,
        "max_window": config.max_window,
        "batch_tokens": config.batch_tokens,
        "versions": {name: version(name) for name in ("torch", "tokenizers")},
        "device": device_for_evaluation().type,
    }


if __name__ == "__main__":
    run_job(PerplexityConfig, make)
