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

from olmo_core.corpus.rows import read_rows, require_utf8
from olmo_core.errors import InputError

UNITS = {  # metric -> what it is per
    "loss": "token",
    "bits_per_byte": "byte",
    "perplexity_token": "token",
    "perplexity_word": "word",
    "perplexity_char": "char",
    "perplexity_byte": "byte",
}
MOST_NATS = 709.0  # per unit: beyond it the perplexity is above 1e308, and no number of f64


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
            if value < MOST_NATS:
                found[f"perplexity_{unit}"] = math.exp(value)
        return found

    def reason(self, metric: str) -> str:
        """Return why `figures` lacks a metric."""
        unit = UNITS[metric]
        if not self.units[unit]:
            return f"no {unit}s"
        return f"above 1e308 ({-self.log_likelihood / self.units[unit]:.0f} nats per {unit})"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A domain that a metric leaves out of its source's mean, since it has no finite value."""

    source: str
    domain: str
    metric: str
    reason: str


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
            document = to_document(row, source=source, where=f"{path}:{line}")
            if bytes_per_source is None or taken[source] < bytes_per_source:
                documents.append(document)
            taken[source] += len(document.text.encode())
    if not any(document.text for document in documents):
        found = f"{len(documents)} documents, all empty" if documents else "no documents"
        raise InputError(f"{folder}: {found}; expected <source>/val/*.jsonl.gz with text")
    return documents


def to_document(row: Mapping[str, Any], *, source: str, where: str) -> Document:
    """Return the document of a row; its text may be empty, which others' data sometimes is.

    Args:
        row: With `text`, and perhaps `id` and `subdomain`, which may be whole numbers.
        source: Of the document; its domain too where the row names no subdomain.
        where: Of the row, `file:line`; the id of one that has none.

    Raises:
        InputError: with `where`: a key is missing, of another type, or cannot be written as UTF-8.
    """
    if not isinstance(text := row.get("text"), str):
        found = (
            f"is a {type(text).__name__}" if "text" in row else f"is missing among {sorted(row)}"
        )
        raise InputError(f"{where}: key 'text' {found}; expected a string")
    require_utf8(text, f"{where}: key 'text'")
    return Document(
        id=_name(row, "id", where) or where.rpartition("/")[2],
        source=source,
        domain=_name(row, "subdomain", where) or source,
        text=text,
    )


def _name(row: Mapping[str, Any], key: str, where: str) -> str:
    """Return a name as text; empty where the row has none, or null. 0 is a name."""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        kind = type(value).__name__
        raise InputError(f"{where}: key {key!r} is a {kind}; expected a string or a whole number")
    require_utf8(str(value), f"{where}: key {key!r}")
    return str(value)


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
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Return rows (task, metric, value, n) of one model: per domain, per source, and overall.

    `n` counts the documents behind a value: none of a domain that is left out.

    Args:
        documents: The held-out documents.
        tokens: Number of tokens per document.
        log_likelihoods: Nats per document, negative.
        name: Task of the whole; a source is `name/source`, a domain `name/source/domain`.

    Returns:
        The rows, and the domains that a metric leaves out.
    """
    everything = Sums()
    domains: dict[str, dict[str, Sums]] = {}
    for document, count, value in zip(documents, tokens, log_likelihoods, strict=True):
        everything.add(document, count, value)
        sums = domains.setdefault(document.source, {}).setdefault(document.domain, Sums())
        sums.add(document, count, value)
    rows: list[dict[str, Any]] = []
    left_out: list[LeftOut] = []
    per_source: list[tuple[Mapping[str, float], Mapping[str, int]]] = []
    for source, parts in sorted(domains.items()):
        per_domain = [_with_documents(sums) for _, sums in sorted(parts.items())]
        figures, counted = _mean(per_domain)
        per_source.append((figures, counted))
        rows += _rows(f"{name}/{source}", figures, counted)
        if set(parts) != {source}:
            for domain, (own, n) in zip(sorted(parts), per_domain, strict=True):
                rows += _rows(f"{name}/{source}/{domain}", own, n)
        left_out += [
            LeftOut(source=source, domain=domain, metric=metric, reason=sums.reason(metric))
            for domain, sums in sorted(parts.items())
            for metric in UNITS
            if metric not in sums.figures()
        ]
    overall, counted = _with_documents(everything)
    means, behind = _mean(per_source)
    macro = {f"macro_{metric}": value for metric, value in means.items()}
    counted |= {f"macro_{metric}": n for metric, n in behind.items()}
    return _rows(name, {**overall, **macro}, counted) + rows, left_out


def _with_documents(sums: Sums) -> tuple[dict[str, float], dict[str, int]]:
    """Return a domain's figures, and the number of documents behind each."""
    figures = sums.figures()
    return figures, dict.fromkeys(figures, sums.documents)


def _mean(
    parts: Sequence[tuple[Mapping[str, float], Mapping[str, int]]],
) -> tuple[dict[str, float], dict[str, int]]:
    """Return the mean of each metric over the parts that have it, and the documents behind it."""
    means: dict[str, float] = {}
    counted: dict[str, int] = {}
    for metric in UNITS:
        found = [(figures[metric], n[metric]) for figures, n in parts if metric in figures]
        if found:
            means[metric] = math.fsum(value for value, _ in found) / len(found)
            counted[metric] = sum(n for _, n in found)
    return means, counted


def _rows(
    task: str, figures: Mapping[str, float], documents: Mapping[str, int]
) -> list[dict[str, Any]]:
    return [
        {"task": task, "metric": metric, "value": value, "n": documents[metric]}
        for metric, value in figures.items()
    ]
