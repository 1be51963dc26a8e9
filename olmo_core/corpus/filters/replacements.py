"""Spans of the texts that stay, replaced: personal data by a mask, a repeated line by nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from olmo_core.corpus.filters.names import check_attribute, check_found_attribute
from olmo_core.errors import ConfigError

EXPERIMENT = "replaced"  # folder of the attributes that the toolkit reads


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """The spans of an attribute become another text in the documents that no rule drops.

    Raises:
        ConfigError: not the name of an attribute, a name that none can hold, no finite score, or a
            text that dolma's mixer takes for a path.
    """

    name: str  # in the tables
    attribute: str  # e.g. tags__pii_regex_with_counts_fast_v2__EMAIL_ADDRESS
    replacement: str  # empty: the span is removed; {} stands for what it held
    min_score: float = 0.5  # spans with a lower score stay

    def __post_init__(self) -> None:
        where = f"filtered: replacement {self.name}"
        check_found_attribute(self.attribute, where)
        check_attribute(self.name, f"{where}: its name")
        if not abs(self.min_score) < float("inf"):
            raise ConfigError(f"{where}: min_score {self.min_score}: expected a finite number")
        if self.replacement.startswith("$"):
            raise ConfigError(
                f"{where}: replacement {self.replacement!r}: begins with $, by which dolma's mixer "
                "means a key of the document; expected another first character"
            )

    @property
    def spans_name(self) -> str:
        """The attribute of `mixer_spans`: one that no tagger writes, of letters that a path takes.

        A replacement may be named as an attribute that a rule judges.
        """
        return f"{EXPERIMENT}__{self.name.encode().hex()}"

    def mixer(self) -> dict[str, Any]:
        """Return an entry of `span_replacement` of dolma's mixer, for spans of `mixer_spans`."""
        return {
            "span": f"$.attributes.{self.spans_name}",
            "min_score": 0.5,  # each of those spans has 1
            "replacement": self.replacement,
            "syntax": "jsonpath",
        }


@dataclass(frozen=True, slots=True)
class Replaced:
    """A span of a text, in characters, and what replaces it."""

    start: int
    end: int
    by: Replacement


def spans_to_replace(
    attributes: Mapping[str, Sequence[Sequence[float]]], replacements: Iterable[Replacement]
) -> list[Replaced]:
    """Return the spans to replace in a document, none of them empty, in order, without overlap.

    Spans that overlap become one, which is replaced as the first of them is (by where they begin,
    then in the replacements' order): no character of any is left. dolma's mixer puts text in wrong
    places where spans overlap or are empty.

    Args:
        attributes: Name -> spans `[start, end, score]` of the document.
        replacements: Of its source.
    """
    found = [
        Replaced(int(start), int(end), each)
        for each in replacements
        for start, end, score in attributes.get(each.attribute) or []
        if score >= each.min_score and end > start
    ]
    spans: list[Replaced] = []
    for span in sorted(found, key=lambda span: span.start):
        if not spans or span.start >= spans[-1].end:
            spans.append(span)
        elif span.end > spans[-1].end:
            spans[-1] = replace(spans[-1], end=span.end)
    return spans


def replaced(text: str, spans: Iterable[Replaced]) -> str:
    """Return a text with its spans replaced."""
    parts: list[str] = []
    done = 0
    for span in spans:
        held = text[span.start : span.end]
        parts += [text[done : span.start], span.by.replacement.replace("{}", held)]
        done = span.end
    return "".join([*parts, text[done:]])


def mixer_spans(
    spans: Iterable[Replaced], replacements: Iterable[Replacement]
) -> dict[str, list[list[float]]]:
    """Return the spans of a document as attributes for dolma's mixer: by `spans_name`."""
    found: dict[str, list[list[float]]] = {each.spans_name: [] for each in replacements}
    for span in spans:
        found[span.by.spans_name].append([span.start, span.end, 1.0])
    return found
