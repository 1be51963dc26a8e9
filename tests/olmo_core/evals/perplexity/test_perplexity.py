"""Perplexity against lm-eval's rolling log-likelihood and against a loop over single tokens."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmo_core.checkpoint.huggingface import load_exported
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.errors import InputError, Stopped
from olmo_core.evals.perplexity import perplexity, scoring
from olmo_core.evals.perplexity.documents import Document, read_texts
from olmo_core.evals.perplexity.scoring import score_documents
from olmo_core.evals.rows import read_rows
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job


def evaluate(family: Any, **config: Any) -> Path:
    folder = family.new("perplexity")
    inputs = {name: family.runs[name] for name in ("export", "held_out", "stage1_mix", "tokens")}
    with Job.open(folder) as job:
        job.finish(perplexity.make(PerplexityConfig(**config), inputs, job))
    return folder


def held_out(family: Any) -> list[tuple[str, Document]]:
    """Source and document, in the order of the figures."""
    files = sorted((family.runs["held_out"] / "paloma").glob("*/val/*.jsonl.gz"))
    names = [path.parts[-3] for path in files]
    return [
        (name, each)
        for name, path in zip(names, files, strict=True)
        for each in read_texts([path], source=name)
    ]


@pytest.fixture(scope="module")
def scored(family: Any) -> Path:
    return evaluate(family, batch_tokens=200)


def documents_of(scored: Path, model: str) -> list[dict[str, Any]]:
    rows = pq.read_table(scored / "documents.parquet").to_pylist()
    return [row for row in rows if row["model"] == model]


@pytest.mark.parametrize("model", ["stage1", "soup"])
def test_documents_equal_lm_eval_rolling(family: Any, scored: Path, model: str) -> None:
    folder = family.runs["export"] / "exports" / model
    arguments: dict[str, Any] = {
        "pretrained": AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "batch_size": 3,
    }
    lm: Any = HFLM(**arguments)
    assert lm.max_length == 64

    class Request:
        def __init__(self, text: str) -> None:
            self.args = (text,)

    documents = [document for _, document in held_out(family)]
    requests: Any = [Request(document.text) for document in documents]
    theirs = lm.loglikelihood_rolling(requests, disable_tqdm=True)
    ours = documents_of(scored, model)
    assert max(row["tokens"] for row in ours) > 2 * 64  # several windows
    for row, expected, document in zip(ours, theirs, documents, strict=True):
        assert row["id"] == document.id
        assert row["log_likelihood"] == pytest.approx(expected, rel=1e-6)


def test_documents_equal_a_loop_over_tokens(family: Any, scored: Path) -> None:
    folder = family.runs["export"] / "exports" / "soup"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    document = next(document for source, document in held_out(family) if source == "code")
    ids = tokenizer.encode(document.text).ids
    prefixes = torch.zeros((len(ids), 64), dtype=torch.long)
    for i in range(len(ids)):
        last = math.ceil((i + 1) / 64) * 64  # end of the window that scores token i
        start = max(0, min(last, len(ids)) - 64)
        read = [0, *ids][start : i + 1]
        prefixes[i, : len(read)] = torch.tensor(read)
    ends = [i - max(0, min(math.ceil((i + 1) / 64) * 64, len(ids)) - 64) for i in range(len(ids))]
    with torch.no_grad():
        logits = model(input_ids=prefixes).logits[torch.arange(len(ids)), torch.tensor(ends)]
    total = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].sum().item()
    found = documents_of(scored, "soup")
    row = next(row for row in found if row["id"] == document.id)
    assert row["log_likelihood"] == pytest.approx(total, rel=1e-6)


def test_rows_are_the_sums_of_the_documents(family: Any, scored: Path) -> None:
    rows = read_rows(scored / "rows.parquet")
    for model in ("stage1", "soup", "unigram"):
        parts = documents_of(scored, model)
        bits = -sum(p["log_likelihood"] for p in parts) / sum(p["bytes"] for p in parts)
        row = next(
            r
            for r in rows
            if (r["model"], r["task"], r["metric"]) == (model, "held_out", "bits_per_byte")
        )
        assert row["value"] == pytest.approx(bits / math.log(2))
        assert row["n"] == len(parts)
    tasks = {row["task"] for row in rows}
    assert {"held_out/code", "held_out/code/python", "held_out/prose"} <= tasks
    revisions = {row["model"]: (row["revision"], row["step"]) for row in rows}
    assert revisions["soup"] == ("main", 10)
    assert revisions["unigram"] == (None, None)


def test_unigram_by_counting(family: Any, scored: Path) -> None:
    path = family.runs["tokens"] / "tokens" / "prose" / "part-0-00000.npy"
    ids = np.fromfile(path, "<u2")
    tokenizer = Tokenizer.from_file(str(family.runs["tokenizer"] / "tokenizer.json"))
    for row, (_, document) in zip(documents_of(scored, "unigram"), held_out(family), strict=True):
        expected = sum(
            math.log((int((ids == token).sum()) + 1) / (len(ids) + 400))
            for token in tokenizer.encode(document.text).ids
        )
        assert row["log_likelihood"] == pytest.approx(expected)


def test_only_what_changed_is_scored_again(
    family: Any, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    real = scoring.load_exported

    def counting(folder: Path, device: torch.device) -> Any:
        loaded.append(folder.name)
        return real(folder, device)

    monkeypatch.setattr(scoring, "load_exported", counting)
    again = evaluate(family, batch_tokens=200)
    assert loaded == []
    results = [RunFolder(folder).read_result() for folder in (scored, again)]
    assert results[0]["digest"] == results[1]["digest"]
    assert results[1]["report"]["numbers"]["scores_from_cache"] == 4 * 3  # sources
    evaluate(family, batch_tokens=200, max_window=32)
    assert loaded == ["stage1", "stage2_ingredient1", "stage2_ingredient2", "soup"]


def test_batches_do_not_change_the_figures(family: Any, scored: Path) -> None:
    other = documents_of(evaluate(family, batch_tokens=64), "soup")
    for row, expected in zip(other, documents_of(scored, "soup"), strict=True):
        assert row["log_likelihood"] == pytest.approx(expected["log_likelihood"], rel=1e-6)


def test_changed_weights_are_refused(family: Any, tmp_path: Path) -> None:
    export = tmp_path / "export"
    source = family.runs["export"]
    for path in source.glob("exports/*/*"):
        target = export / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (export / "result.json").write_text((source / "result.json").read_text())
    weights = export / "exports" / "stage1" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    folder = family.new("perplexity")
    inputs = {**family.runs, "export": export}
    with (
        pytest.raises(InputError, match="changed since they were exported"),
        Job.open(folder) as job,
    ):
        perplexity.make(PerplexityConfig(max_window=16), inputs, job)
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"


def test_threads_do_not_change_a_bit(family: Any) -> None:
    folder = family.runs["export"] / "exports" / "soup"
    models = [load_exported(folder, torch.device("cpu")) for _ in range(2)]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [np.array(tokenizer.encode(document.text).ids) for _, document in held_out(family)]
    settings: dict[str, Any] = {"eos_token_id": 0, "max_window": 64, "batch_tokens": 128}
    torch.set_num_threads(1)
    found = [
        [*score_documents(replicas, ids, **settings)]
        for replicas in (models[:1], models, [*models, models[0]])
    ]
    assert found[0] == found[1] == found[2]
    assert [tokens for tokens, _ in found[0]] == [len(each) for each in ids]


def test_documents_are_read_as_they_are_needed(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BUFFER_BATCHES", 2)
    model = load_exported(family.runs["export"] / "exports" / "soup", torch.device("cpu"))
    rng = np.random.default_rng(0)
    documents = [rng.integers(2, 400, n) for n in (10, 0, 200, 3, 64, 65, 1, 30)]
    settings: dict[str, Any] = {"eos_token_id": 0, "max_window": 32, "batch_tokens": 64}
    read: list[int] = []

    def streamed() -> Iterator[np.ndarray]:
        for ids in documents:
            read.append(len(ids))
            yield ids

    reports: list[tuple[int, int]] = []
    found: list[tuple[int, float]] = []
    ahead: list[int] = []
    for value in score_documents(
        [model], streamed(), **settings, scored=lambda *done: reports.append(done)
    ):
        found.append(value)
        ahead.append(sum(read) - sum(tokens for tokens, _ in found))
    # Together: 10, 0, 200; 3, 64, 65; 1, 30. More than two batches are never held.
    assert max(ahead) <= 2 * 64 + 200
    assert reports[-1] == (373, 373)
    assert sorted(reports) == reports
    alone = [next(score_documents([model], [ids], **settings)) for ids in documents]
    for (tokens, value), (expected_tokens, expected) in zip(found, alone, strict=True):
        assert tokens == expected_tokens
        assert value == pytest.approx(expected, rel=1e-6)


def test_a_stop_does_not_wait_for_the_queue(family: Any) -> None:
    model = load_exported(family.runs["export"] / "exports" / "soup", torch.device("cpu"))
    real, calls = model.hidden, []

    def counted(*inputs: Any) -> torch.Tensor:
        calls.append(1)
        return real(*inputs)

    def stop(*_: int) -> None:
        raise Stopped

    model.hidden = counted  # pyright: ignore[reportAttributeAccessIssue]
    documents = [np.full(64, 5)] * 500
    with pytest.raises(Stopped):
        next(
            score_documents(
                [model], documents, eos_token_id=0, max_window=64, batch_tokens=64, scored=stop
            )
        )
    assert len(calls) < 500
