"""Perplexity of models on held-out documents: one row per (model, domain, metric).

Run as `python -m olmo_core.evals.perplexity RUN_FOLDER/config.yaml`. Our own model is loaded from
the export, so that what is measured is what is released. `olmo_core.evals.paloma` has the
definition.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from olmo_core.checkpoint.huggingface import device_for_evaluation, load_exported
from olmo_core.config.evals import PerplexityConfig
from olmo_core.data.manifest import Manifest
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.evals.cache import cached_scores
from olmo_core.evals.paloma import Document, figure_rows, read_documents
from olmo_core.evals.rows import EvaluatedModel, ModelFacts, exported_models, write_rows
from olmo_core.evals.scoring import score_documents
from olmo_core.files import atomic_path, read_json
from olmo_core.run.code import code_digest
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

DEFINITION_VERSION = "1"  # of `paloma`; stands in the rows
# What decides a document's log-likelihood: scores by other code are not taken from the cache.
SCORED_BY = ("olmo_core.evals.scoring", "olmo_core.checkpoint.huggingface")
log = logging.getLogger("olmo")

UNIGRAM = "unigram"
CHUNK_TOKENS = 1 << 24  # counted at once

Tokens = Sequence[Sequence[int]]  # ids of each document
Scored = tuple[ModelFacts, Tokens, Sequence[float]]  # a model's log-likelihoods of them, in nats


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
    hashed = hashlib.sha256()
    for each in documents:
        hashed.update(json.dumps([each.id, each.source, each.domain, each.text]).encode())
    data_sha256 = hashed.hexdigest()
    identities = [model.identity() for model in models]
    tokenizers = {
        identity["tokenizer"]: model.path / "tokenizer.json"
        for model, identity in zip(models, identities, strict=True)
    }
    with job.timed("tokenise"):
        tokenised = {digest: _encode(path, documents) for digest, path in tokenizers.items()}
    tokens = [tokenised[identity["tokenizer"]] for identity in identities]

    def score(missing: Sequence[int]) -> Iterator[list[float]]:
        for number in missing:
            with job.timed(models[number].model):
                yield _log_likelihoods(config, models[number], tokens[number], job)

    scored_by = {
        "kind": "perplexity",
        "code": code_digest(*SCORED_BY),
        "max_window": config.max_window,
        "batch_tokens": config.batch_tokens,
        "versions": {name: version(name) for name in ("torch", "tokenizers")},
        "device": device_for_evaluation().type,
    }
    keys = [{**scored_by, **identity, "data": data_sha256} for identity in identities]
    values, cached = cached_scores(job.cache / "evals", keys, score)
    scores: list[Scored] = [*zip(models, tokens, values, strict=True)]
    if mix is not None:
        with job.timed(UNIGRAM):
            scores.append(_score_unigram(mix, tokenised, job))
    rows, left_out = _write_rows(config, documents, data_sha256, scores, job.folder)
    for line in left_out:
        log.warning("%(model)s: %(metric)s leaves out %(domain)s: %(reason)s", line)
    return _report(rows, documents, left_out, cached=cached)


def _write_rows(
    config: PerplexityConfig,
    documents: Sequence[Document],
    data_sha256: str,
    scores: Sequence[Scored],
    folder: Path,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Write the figures of all models, and those of each document.

    Returns:
        The figures, and the domains that a model's metric leaves out.
    """
    facts = {
        "task_version": DEFINITION_VERSION,
        "num_fewshot": 0,
        "limit": config.bytes_per_source,
        "split": "val",
        "data_sha256": data_sha256,
        "library": f"torch {version('torch')}",
    }
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    by_document: list[dict[str, Any]] = []
    for model, tokens, values in scores:
        counts = [len(ids) for ids in tokens]
        figures, without = figure_rows(documents, counts, values, name=config.name)
        left_out += [
            {
                "model": model.model,
                "domain": f"{config.name}/{each.source}/{each.domain}",
                "metric": each.metric,
                "reason": each.reason,
            }
            for each in without
        ]
        rows += [model.row(**facts, **figure) for figure in figures]
        by_document += [
            {
                "model": model.model,
                "id": document.id,
                "source": document.source,
                "domain": document.domain,
                "tokens": count,
                "bytes": len(document.text.encode()),
                "log_likelihood": value,
            }
            for document, count, value in zip(documents, counts, values, strict=True)
        ]
    write_rows(folder / "rows.parquet", rows)
    with atomic_path(folder / "documents.parquet") as beside:
        pq.write_table(pa.Table.from_pylist(by_document), beside)
    return rows, left_out


def _log_likelihoods(
    config: PerplexityConfig, model: EvaluatedModel, tokens: Tokens, job: Job
) -> list[float]:
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


def _score_unigram(manifest: Manifest, tokenised: Mapping[str, Tokens], job: Job) -> Scored:
    """Score by how often each token occurs in the streams, EOS included, with add-one smoothing."""
    tokens = tokenised.get(manifest.tokenizer_sha256 or "")
    if tokens is None:
        raise InputError("stage1_mix: its tokens are of another tokenizer than the models'")
    if manifest.vocab_size is None:
        raise InputError("the manifest names no vocab_size")
    counts = np.zeros(manifest.vocab_size, np.int64)
    files = manifest.open_files(vocab_size=manifest.vocab_size)
    for part in (part for stream in manifest.streams for part in stream.ranges):
        file = np.memmap(manifest.resolve(part.path), dtype=files[part.path].dtype, mode="r")
        for start in range(part.start, part.stop, CHUNK_TOKENS):
            chunk = file[start : min(start + CHUNK_TOKENS, part.stop)]
            counts += np.bincount(chunk, minlength=manifest.vocab_size)
            done = int(counts.sum())
            job.progress(done, manifest.tokens, unit="tokens", message="unigram: counting")
    total = int(counts.sum())
    log_probability = np.log(counts + 1.0) - np.log(float(total) + len(counts))
    values = [float(log_probability[np.asarray(ids, np.int64)].sum()) for ids in tokens]
    model = ModelFacts(model=UNIGRAM, revision=None, step=None, tokens=total, sha256=None)
    return model, tokens, values


def _report(
    rows: Sequence[Mapping[str, Any]],
    documents: Sequence[Document],
    left_out: Sequence[Mapping[str, str]],
    *,
    cached: int,
) -> Report:
    """Return the overall figures, and bits per byte by model and source."""
    loss: dict[str, float] = {}
    bits: dict[str, dict[str, float]] = {}  # model -> source (or "all") -> bits per byte
    for row in rows:
        source = row["task"].partition("/")[2]
        if row["metric"] == "bits_per_byte" and "/" not in source:
            bits.setdefault(row["model"], {})[source or "all"] = row["value"]
        if row["metric"] == "loss" and not source:
            loss[row["model"]] = row["value"]
    figures = {model: {"loss": loss[model], **cells} for model, cells in bits.items()}
    table = [
        {"model": model, **{name: round(value, 4) for name, value in cells.items()}}
        for model, cells in figures.items()
    ]
    return Report(
        numbers={
            "models": len(table),
            "held_out_documents": len(documents),
            "held_out_bytes": sum(len(document.text.encode()) for document in documents),
            "empty_documents": sum(not document.text for document in documents),
            "domains_left_out": len({line["domain"] for line in left_out}),
            "rows": len(rows),
            "scores_from_cache": cached,
        },
        tables={"bits_per_byte": table, **({"left out": left_out} if left_out else {})},
        data={
            "data_sha256": rows[0]["data_sha256"],
            "loss": loss,
            "bits_per_byte": bits,
            "left_out": left_out,
        },
    )


def _encode(path: Path, documents: Sequence[Document]) -> list[list[int]]:
    tokenizer = read_tokenizer(path)
    texts = [document.text for document in documents]
    return [item.ids for item in tokenizer.encode_batch(texts, add_special_tokens=False)]


if __name__ == "__main__":
    run_job(PerplexityConfig, make)
