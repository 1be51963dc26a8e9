"""Figures as Paloma defines them: of a domain by its sums, of a source the mean over its domains.

The metrics are per token, word (split on blanks), character and UTF-8 byte
(https://arxiv.org/abs/2312.10523).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNITS = {  # metric -> what it is per
    "loss": "token",
    "bits_per_byte": "byte",
    "perplexity_token": "token",
    "perplexity_word": "word",
    "perplexity_char": "char",
    "perplexity_byte": "byte",
}
MOST_NATS = 709.0  # per unit: beyond it the perplexity is above 1e308, and no number of f64


def text_units(text: str) -> dict[str, int]:
    """Return how many words, characters and UTF-8 bytes a text has."""
    return {"word": len(text.split()), "char": len(text), "byte": len(text.encode())}


@dataclass(kw_only=True)
class Sums:
    """Sums over a domain, from which its figures are computed."""

    documents: int = 0
    log_likelihood: float = 0.0  # nats, of all tokens
    units: Counter[str] = field(default_factory=Counter[str])  # token, word, char, byte

    def add(self, units: Mapping[str, int], log_likelihood: float) -> None:
        """Add one document: how many of each unit it has, and its nats, negative."""
        self.documents += 1
        self.log_likelihood += log_likelihood
        self.units.update(units)

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
        return {metric: found[metric] for metric in UNITS if metric in found}

    def reason(self, metric: str) -> str:
        """Return why `figures` lacks a metric."""
        unit = UNITS[metric]
        if not self.units[unit]:
            return f"no {unit}s"
        return f"above 1e308 ({-self.log_likelihood / self.units[unit]:.0f} nats per {unit})"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A domain that a metric leaves out of its source's mean, since it has no finite value."""

    domain: str  # its task
    metric: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """The figures of one model on one set of texts, document by document.

    `name` is the task of the whole; a source is `name/source`, a domain `name/source/domain`.
    """

    name: str
    everything: Sums = field(default_factory=Sums)
    domains: dict[str, dict[str, Sums]] = field(default_factory=dict[str, dict[str, Sums]])

    def add(
        self, source: str, domain: str, units: Mapping[str, int], log_likelihood: float
    ) -> None:
        """Add one document: how many of each unit it has, and its nats, negative."""
        self.everything.add(units, log_likelihood)
        parts = self.domains.setdefault(source, {})
        parts.setdefault(domain, Sums()).add(units, log_likelihood)

    def rows(self) -> list[dict[str, Any]]:
        """Return rows (task, metric, value, n): of all, and per source and domain.

        `n` counts the documents behind a value: none of a domain that is left out.
        """
        rows: list[dict[str, Any]] = []
        per_source: list[_Counted] = []
        for source, parts in sorted(self.domains.items()):
            per_domain = {domain: _counted(sums) for domain, sums in sorted(parts.items())}
            per_source.append(_mean([*per_domain.values()]))
            rows += _rows(f"{self.name}/{source}", per_source[-1])
            if set(parts) != {source}:
                for domain, own in per_domain.items():
                    rows += _rows(f"{self.name}/{source}/{domain}", own)
        macro = {f"macro_{metric}": found for metric, found in _mean(per_source).items()}
        return _rows(self.name, {**_counted(self.everything), **macro}) + rows

    def left_out(self) -> list[LeftOut]:
        """Return the domains that a metric leaves out, in the order of the rows."""
        return [
            LeftOut(
                domain=f"{self.name}/{source}/{domain}", metric=metric, reason=sums.reason(metric)
            )
            for source, parts in sorted(self.domains.items())
            for domain, sums in sorted(parts.items())
            for metric in UNITS
            if metric not in sums.figures()
        ]


_Counted = dict[str, tuple[float, int]]  # metric -> its value, the documents behind it


def _counted(sums: Sums) -> _Counted:
    return {metric: (value, sums.documents) for metric, value in sums.figures().items()}


def _mean(parts: Sequence[_Counted]) -> _Counted:
    """Return the mean of each metric over the parts that have it."""
    means: _Counted = {}
    for metric in UNITS:
        found = [part[metric] for part in parts if metric in part]
        if found:
            mean = math.fsum(value for value, _ in found) / len(found)
            means[metric] = mean, sum(documents for _, documents in found)
    return means


def _rows(task: str, figures: _Counted) -> list[dict[str, Any]]:
    return [
        {"task": task, "metric": metric, "value": value, "n": documents}
        for metric, (value, documents) in figures.items()
    ]
