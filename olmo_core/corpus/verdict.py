"""What the filter rules say of every document of a source, evaluated without the toolkit."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import Document, clip, read_attributes, read_documents, shards
from olmo_core.corpus.rules import Rule, check_families, first_reason


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
