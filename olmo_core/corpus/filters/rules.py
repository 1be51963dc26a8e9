"""Filter rules: one condition on one attribute, in the toolkit's jq and, independently, in Python.

An attribute is a list of spans `[start, end, score]` over the text, as dolma writes them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from olmo_core.corpus.document import Document, count_words, utf8_bytes
from olmo_core.corpus.filters.names import EVALUATION_COVERED, check_found_attribute
from olmo_core.errors import ConfigError

Measure = Literal["score", "spans", "share"]
BLANK = "left blank"  # the reason where replacements leave no text


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A document is dropped when the measure of an attribute lies above, or below, a bound.

    Measures: `score` of the first span, 0 without one; number of `spans`; `share` of the text's
    characters that lie in spans with a score above 0 (a tagger that found nothing may write one
    span over everything with score 0).

    Raises:
        ConfigError: not exactly one bound, or no finite one.
    """

    name: str  # the reason that tables give
    attribute: str  # e.g. tags__gopher_v2__word_count
    measure: Measure = "score"
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ConfigError(f"filtered: rule {self.name}: expected exactly one of above, below")
        if not abs(self._bound()) < math.inf:  # a comparison with NaN holds in jq alone
            raise ConfigError(
                f"filtered: rule {self.name}: bound {self._bound()}: expected a finite number"
            )
        check_found_attribute(self.attribute, f"filtered: rule {self.name}")

    def jq(self) -> str:
        """Return the condition under which dolma's mixer excludes a document, in its jq syntax."""
        spans = f'(.attributes["{self.attribute}"] // [])'
        measure = {
            "score": f"({spans} | if length > 0 then .[0][2] else 0 end)",
            "spans": f"({spans} | length)",
            "share": (
                f"((({spans} | map(select(.[2] > 0) | .[1] - .[0]) | add) // 0) / (.text | length))"
            ),
        }[self.measure]
        return f"{measure} {'>' if self.above is not None else '<'} {self._bound()!r}"

    def drops(self, text: str, attributes: Mapping[str, Sequence[Sequence[float]]]) -> bool:
        """Return whether the rule drops a document with this text and these attributes."""
        value = self.value(text, attributes)
        return value > self._bound() if self.above is not None else value < self._bound()

    def value(self, text: str, attributes: Mapping[str, Sequence[Sequence[float]]]) -> float:
        """Return the measure of a document."""
        spans = attributes.get(self.attribute) or []
        if self.measure == "spans":
            return len(spans)
        if self.measure == "share":
            return sum(span[1] - span[0] for span in spans if span[2] > 0) / len(text)
        return spans[0][2] if spans else 0

    def _bound(self) -> float:
        bound: Any = self.above if self.above is not None else self.below
        return float(bound)


def check_families(named: Iterable[tuple[str, str]], seen: set[str], source: str) -> None:
    """Refuse rules on attributes that nothing wrote: they would silently keep everything.

    Args:
        named: Name and attribute of each rule and replacement of the source.
        seen: Names of all attributes that its documents have.
        source: For the message.

    Raises:
        ConfigError: with the rule and the attributes that there are.
    """
    families = {_family(name) for name in seen}
    for name, attribute in named:
        if _family(attribute) not in families:
            raise ConfigError(
                f"filtered: rules: {source}: {name}: no document has an attribute of "
                f"{_family(attribute)!r}; found {sorted(seen)}"
            )


def _family(attribute: str) -> str:
    """Return what wrote an attribute: experiment and tagger, its name without the last part."""
    return attribute.rpartition("__")[0] or attribute


@dataclass(kw_only=True)
class Verdict:
    """What the rules of one source say of its documents: of all, or of those in some files."""

    rules: Sequence[Rule]
    kept: int = 0  # documents
    kept_bytes: int = 0
    kept_words: int = 0
    text_bytes: int = 0  # of all, before anything is replaced
    replaced: Counter[str] = field(default_factory=Counter[str])  # spans in kept documents
    reasons: Counter[str] = field(default_factory=Counter[str])  # the first rule that drops
    matches: Counter[str] = field(default_factory=Counter[str])  # every rule that drops
    dropped_bytes: Counter[str] = field(default_factory=Counter[str])
    dropped_words: Counter[str] = field(default_factory=Counter[str])
    samples: dict[str, str] = field(default_factory=dict[str, str])  # reason -> a dropped text
    attributes: set[str] = field(default_factory=set[str])  # names of all that documents have
    # The largest share of an evaluation text in a kept document, and that document's id.
    evaluation: tuple[float, str] = (0.0, "")

    @property
    def documents(self) -> int:
        """Return the number of documents that were judged."""
        return self.kept + self.reasons.total()

    def add(self, document: Document, attributes: Mapping[str, Any], left: str) -> str:
        """Judge one document; return why it goes, the first rule to drop it, or "" if it stays.

        Args:
            document: As it was when it was tagged.
            attributes: What the rules ask for.
            left: Its text with spans replaced; where that is blank, the document goes.
        """
        self.attributes.update(attributes)
        self.text_bytes += document.text_bytes
        drops = [rule for rule in self.rules if rule.drops(document.text, attributes)]
        if not drops and not left.strip():
            self.reasons[BLANK] += 1
            self.matches[BLANK] += 1
            self.dropped_bytes[BLANK] += document.text_bytes
            self.dropped_words[BLANK] += count_words(document.text)
            self.samples.setdefault(BLANK, document.sample(BLANK))
            return BLANK
        if not drops:
            self.kept += 1
            self.kept_bytes += utf8_bytes(left)
            self.kept_words += count_words(left)
            spans = attributes.get(EVALUATION_COVERED) or [[0, 0, 0.0]]
            self.evaluation = max(self.evaluation, (spans[0][2], document.id))
            return ""
        reason = drops[0]
        self.reasons[reason.name] += 1
        self.dropped_bytes[reason.name] += document.text_bytes
        self.dropped_words[reason.name] += count_words(document.text)
        self.matches.update(rule.name for rule in drops)
        if reason.name not in self.samples:
            value = reason.value(document.text, attributes)
            self.samples[reason.name] = document.sample(f"{reason.name} ({value:.4g})")
        return reason.name

    def facts(self) -> dict[str, Any]:
        """Return what was counted, as JSON holds it; `join` takes it."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        del found["rules"]
        return found | {"attributes": sorted(self.attributes)}

    def join(self, facts: Mapping[str, Any]) -> None:
        """Add what was counted over the files that follow."""
        self.kept += facts["kept"]
        self.kept_bytes += facts["kept_bytes"]
        self.kept_words += facts["kept_words"]
        self.text_bytes += facts["text_bytes"]
        self.replaced.update(facts["replaced"])
        self.reasons.update(facts["reasons"])
        self.matches.update(facts["matches"])
        self.dropped_bytes.update(facts["dropped_bytes"])
        self.dropped_words.update(facts["dropped_words"])
        self.samples = {**facts["samples"], **self.samples}  # the first of each stays
        self.attributes.update(facts["attributes"])
        share, name = facts["evaluation"]
        self.evaluation = max(self.evaluation, (share, name))
