"""Filter rules: one condition on one attribute, in the toolkit's jq and, independently, in Python.

An attribute is a list of spans `[start, end, score]` over the text, as dolma writes them.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from olmo_core.corpus.document import Document, clip, read_attributes, read_documents, shards
from olmo_core.errors import ConfigError

Measure = Literal["score", "spans", "share"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A document is dropped when the measure of an attribute lies above, or below, a bound.

    Measures: `score` of the first span, 0 without one; number of `spans`; `share` of the text's
    characters that lie in spans with a score above 0 (a tagger that found nothing may write one
    span over everything with score 0).

    Raises:
        ConfigError: not exactly one bound.
    """

    name: str  # the reason that tables give
    attribute: str  # e.g. tags__gopher_v2__word_count
    measure: Measure = "score"
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ConfigError(f"filtered: rule {self.name}: expected exactly one of above, below")
        if not self.attribute.replace("_", "").isalnum():
            raise ConfigError(
                f"filtered: rule {self.name}: attribute {self.attribute!r}: expected a name such "
                "as tags__gopher_v2__word_count"
            )

    @property
    def family(self) -> str:
        """What wrote the attribute: experiment and tagger, its name without the last part."""
        return self.attribute.rpartition("__")[0]

    def jq(self) -> str:
        """The condition under which dolma's mixer excludes a document, in its jq syntax."""
        spans = f"(.attributes.{self.attribute} // [])"
        measure = {
            "score": f"({spans} | if length > 0 then .[0][2] else 0 end)",
            "spans": f"({spans} | length)",
            "share": (
                f"((({spans} | map(select(.[2] > 0) | .[1] - .[0]) | add) // 0) / (.text | length))"
            ),
        }[self.measure]
        return f"{measure} {'>' if self.above is not None else '<'} {self._bound()!r}"

    def drops(self, text: str, attributes: Mapping[str, Sequence[Sequence[float]]]) -> bool:
        """Whether the rule drops a document with this text and these attributes."""
        value = self.value(text, attributes)
        return value > self._bound() if self.above is not None else value < self._bound()

    def value(self, text: str, attributes: Mapping[str, Sequence[Sequence[float]]]) -> float:
        """The measure of a document."""
        spans = attributes.get(self.attribute) or []
        if self.measure == "spans":
            return len(spans)
        if self.measure == "share":
            return sum(span[1] - span[0] for span in spans if span[2] > 0) / len(text)
        return spans[0][2] if spans else 0

    def _bound(self) -> float:
        bound: Any = self.above if self.above is not None else self.below
        return float(bound)


def first_reason(
    rules: Sequence[Rule], text: str, attributes: Mapping[str, Sequence[Sequence[float]]]
) -> Rule | None:
    """The first rule that drops a document; None if it is kept."""
    return next((rule for rule in rules if rule.drops(text, attributes)), None)


def check_families(rules: Sequence[Rule], seen: set[str], source: str) -> None:
    """Refuse rules on attributes that nothing wrote: they would silently keep everything.

    Args:
        rules: The source's rules.
        seen: Names of all attributes that its documents have.
        source: For the message.

    Raises:
        ConfigError: with the rule and the attributes that there are.
    """
    families = {name.rpartition("__")[0] for name in seen}
    for rule in rules:
        if rule.family not in families:
            raise ConfigError(
                f"filtered: rules: {source}: {rule.name}: no document has an attribute of "
                f"{rule.family!r}; found {sorted(seen)}"
            )


@dataclass(kw_only=True)
class Verdict:
    """What the rules say of one source."""

    documents: int = 0
    text_bytes: int = 0
    kept: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])  # id, digest
    kept_bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])  # the first rule that drops
    matches: Counter[str] = field(default_factory=Counter[str])  # every rule that drops
    dropped_bytes: Counter[str] = field(default_factory=Counter[str])
    samples: dict[str, str] = field(default_factory=dict[str, str])  # reason -> a dropped text


def judge(folder: Path, parts: Mapping[str, Path], rules: tuple[Rule, ...]) -> Verdict:
    """Evaluate a source's rules on every document.

    Raises:
        ConfigError: a rule on an attribute that nothing wrote.
    """
    verdict = Verdict()
    seen: set[str] = set()
    for path in shards(folder):
        name = Path(folder.name) / path.relative_to(folder)
        marks = zip(*(read_attributes(part / name) for part in parts.values()), strict=True)
        for (_, document), rows in zip(read_documents(path), marks, strict=True):
            attributes = {key: spans for row in rows for key, spans in row[2].items()}
            seen.update(attributes)
            _judge_document(document, attributes, rules, verdict)
    check_families(rules, seen, folder.name)
    return verdict


def _judge_document(
    document: Document, attributes: Mapping[str, Any], rules: tuple[Rule, ...], verdict: Verdict
) -> None:
    verdict.documents += 1
    verdict.text_bytes += document.text_bytes
    reason = first_reason(rules, document.text, attributes)
    if reason is None:
        verdict.kept.append((document.id, text_digest(document.text)))
        verdict.kept_bytes += document.text_bytes
        return
    verdict.reasons[reason.name] += 1
    verdict.dropped_bytes[reason.name] += document.text_bytes
    for rule in rules:
        verdict.matches[rule.name] += rule.drops(document.text, attributes)
    if reason.name not in verdict.samples:
        value = reason.value(document.text, attributes)
        verdict.samples[reason.name] = (
            f"{document.id}\n{reason.name} ({value:.4g})\n{clip(document.text)}"
        )


def text_digest(text: str) -> bytes:
    """A short digest, to hold a text against another without keeping it."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
