"""Perplexity as Paloma defines it: documents, windows, units and figures, without a model.

A document is encoded without special tokens and prefixed with EOS. Every token of it is scored
once. The last, partial window keeps the full context on its left. A domain's figures come from its
sums, a source's are the mean over its domains (https://arxiv.org/abs/2312.10523).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.rows import check_row, read_rows
from olmo_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Document:
    """A held-out text."""

    id: str
    source: str
    domain: str  # the subdomain where the file names one, else the source
    text: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """One forward pass: `inputs` are read, the last `scored` predictions count."""

    document: int
    inputs: np.ndarray  # token ids (S,)
    targets: np.ndarray  # token ids (scored,), the continuation of the last inputs

    @property
    def scored(self) -> int:
        """Return the number of tokens whose probability counts."""
        return len(self.targets)


@dataclass(kw_only=True)
class Sums:
    """Sums over a domain, from which its figures are computed."""

    documents: int = 0
    log_likelihood: float = 0.0  # nats, of all tokens
    units: Counter[str] = field(default_factory=Counter[str])  # token, word, char, byte

    def add(self, document: Document, tokens: int, log_likelihood: float) -> None:
        """Add one document."""
        text = document.text
        words, chars, size = len(text.split()), len(text), len(text.encode())
        self.documents += 1
        self.log_likelihood += log_likelihood
        self.units.update(token=tokens, word=words, char=chars, byte=size)

    def figures(self) -> dict[str, float]:
        """Return loss (nats per token), bits per byte and perplexities, where they are defined."""
        nats = {unit: -self.log_likelihood / count for unit, count in self.units.items() if count}
        found: dict[str, float] = {}
        if "token" in nats:
            found["loss"] = nats["token"]
        if "byte" in nats:
            found["bits_per_byte"] = nats["byte"] / math.log(2)
        for unit, value in nats.items():
            if value < 709:  # beyond 1e308, as of text without blanks, there is nothing to show
                found[f"perplexity_{unit}"] = math.exp(value)
        return found


def read_documents(folder: Path, *, bytes_per_source: int | None = None) -> list[Document]:
    """Return the documents of `folder/<source>/val/*.jsonl.gz`, in the order of their files.

    Args:
        folder: Sources in Paloma's format.
        bytes_per_source: Stop reading a source once its texts have that many UTF-8 bytes; None:
            never.

    Raises:
        InputError: there are none, or a file is truncated or malformed; names file and line.
    """
    documents: list[Document] = []
    taken: Counter[str] = Counter()  # bytes by source
    for path in sorted(folder.glob("*/val/*.jsonl.gz")):
        source = path.parts[-3]
        for line, row in enumerate(read_rows(path), start=1):
            check_row(row, f"{path}:{line}", ("id", "text"))
            domain = str(row.get("subdomain") or source)
            if bytes_per_source is None or taken[source] < bytes_per_source:
                document = Document(id=row["id"], source=source, domain=domain, text=row["text"])
                documents.append(document)
            taken[source] += len(row["text"].encode())
    if not documents:
        raise InputError(f"{folder}: no documents; expected <source>/val/*.jsonl.gz")
    return documents


def windows(
    tokens: Sequence[int], *, prefix: int, max_window: int, document: int = 0
) -> Iterator[Window]:
    """Cut one document into windows in which every token is a target exactly once.

    Args:
        tokens: The document's ids, without special tokens.
        prefix: The id read before the first token: EOS.
        max_window: Maximum number of inputs per window.
        document: The document's number, passed through to the windows.
    """
    read = np.concatenate([[prefix], np.asarray(tokens, np.int64)]).astype(np.int64)
    for start in range(0, len(tokens), max_window):
        stop = min(start + max_window, len(tokens))
        yield Window(
            document=document,
            inputs=read[max(0, stop - max_window) : stop],
            targets=read[start + 1 : stop + 1],
        )


def batches(items: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Return windows grouped by length, longest first, with at most `batch_tokens` including
    padding.
    """
    batch: list[Window] = []
    for window in sorted(items, key=lambda item: -len(item.inputs)):
        if batch and (len(batch) + 1) * len(batch[0].inputs) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def figure_rows(
    documents: Sequence[Document],
    tokens: Sequence[int],
    log_likelihoods: Sequence[float],
    *,
    name: str,
) -> list[dict[str, Any]]:
    """Return rows (task, metric, value, n) of one model: per domain, per source, and overall.

    Args:
        documents: The held-out documents.
        tokens: Number of tokens per document.
        log_likelihoods: Nats per document, negative.
        name: Task of the whole; a source is `name/source`, a domain `name/source/domain`.
    """
    everything = Sums()
    domains: dict[str, dict[str, Sums]] = {}
    for document, count, value in zip(documents, tokens, log_likelihoods, strict=True):
        everything.add(document, count, value)
        sums = domains.setdefault(document.source, {}).setdefault(document.domain, Sums())
        sums.add(document, count, value)
    rows: list[dict[str, Any]] = []
    per_source: list[Mapping[str, float]] = []
    for source, parts in sorted(domains.items()):
        figures = _mean([sums.figures() for sums in parts.values()])
        per_source.append(figures)
        rows += _rows(f"{name}/{source}", figures, sum(sums.documents for sums in parts.values()))
        if set(parts) != {source}:
            for domain, sums in sorted(parts.items()):
                rows += _rows(f"{name}/{source}/{domain}", sums.figures(), sums.documents)
    macro = {f"macro_{metric}": value for metric, value in _mean(per_source).items()}
    return _rows(name, {**everything.figures(), **macro}, everything.documents) + rows


def _mean(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the parts, if all of them have it."""
    common = [metric for metric in figures[0] if all(metric in part for part in figures)]
    return {metric: math.fsum(part[metric] for part in figures) / len(figures) for metric in common}


def _rows(task: str, figures: Mapping[str, float], n: int) -> list[dict[str, Any]]:
    return [
        {"task": task, "metric": metric, "value": value, "n": n}
        for metric, value in figures.items()
    ]
