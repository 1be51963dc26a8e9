"""The attributes of duplicates and contamination, whoever found them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.corpus.rows import write_rows

TEXT = "duplicates__text"
NEAR = "duplicates__near"
URL = "duplicates__url"
ID = "duplicates__id"
EARLIER = "duplicates__earlier"
# What a document may be a copy of an earlier one by, and whether of one of an earlier corpus -> its
# bit in a `Mark`.
COPIES = {TEXT: 1, NEAR: 2, URL: 4, ID: 8, EARLIER: 16}
PARAGRAPHS = "duplicates__paragraphs"
CONTAMINATION = "contamination__paragraphs"

# Documents of a shard, beside those that are copies; "mostly": more than half of the text;
# "contaminated": any paragraph.
COUNTS = ("documents", "mostly_repeated", "contaminated", "mostly_contaminated")
COPY_COUNTS = {
    TEXT: "exact_duplicates",
    NEAR: "near_copies",
    URL: "same_url",
    ID: "same_id",
    EARLIER: "copies_of_earlier",
}
SAMPLED = {
    TEXT: "exact duplicates",
    NEAR: "near copies",
    URL: "same URL",
    ID: "same id",
    EARLIER: "copies of earlier corpora",
}
SAMPLES = 5  # of a kind in a shard


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What one document repeats."""

    id: str
    characters: int  # of its text
    copied: int  # the bits of `COPIES`: by what an earlier document has made it a copy
    repeated: float  # share of the text in paragraphs that stood before
    contaminated: float  # share of the text in paragraphs of the perplexity set


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: its lines without the blanks around them."""
    return [line.strip() for line in text.split("\n")]


def write_marks(path: Path, marks: Iterable[Mark], copies: Iterable[str]) -> dict[str, Any]:
    """Write the attributes of a shard's documents, row for row.

    Args:
        path: Of the file.
        marks: Of its documents, in order.
        copies: The keys of `COPIES` that were looked for; the others are not written.

    Returns:
        `counts` of the shard: `COUNTS`, and `COPY_COUNTS` of what was looked for; `samples`: label
        -> the lines of the first documents to show.
    """
    bits = {name: COPIES[name] for name in copies}
    counts = dict.fromkeys((*COUNTS, *(COPY_COUNTS[name] for name in bits)), 0)
    labels = (*(SAMPLED[name] for name in bits), "contaminated")
    samples: dict[str, list[int]] = {label: [] for label in labels}
    write_rows(path, _rows(marks, bits, counts, samples))
    return {"counts": counts, "samples": samples}


def _rows(
    marks: Iterable[Mark],
    bits: Mapping[str, int],
    counts: dict[str, int],
    samples: dict[str, list[int]],
) -> Iterator[dict[str, Any]]:
    for line, mark in enumerate(marks, start=1):
        copies = [name for name, bit in bits.items() if mark.copied & bit]
        counts["documents"] += 1
        for name in copies:
            counts[COPY_COUNTS[name]] += 1
        counts["mostly_repeated"] += mark.repeated > 0.5
        counts["contaminated"] += mark.contaminated > 0
        counts["mostly_contaminated"] += mark.contaminated > 0.5
        labels = [SAMPLED[name] for name in copies]
        for label in [*labels, "contaminated"] if mark.contaminated > 0.5 else labels:
            if len(samples[label]) < SAMPLES:
                samples[label].append(line)
        whole = [0, mark.characters]
        values = {
            **{name: [[*whole, 1.0]] if name in copies else [] for name in bits},
            PARAGRAPHS: [[*whole, mark.repeated]],
            CONTAMINATION: [[*whole, mark.contaminated]],
        }
        yield {"id": mark.id, "attributes": values}
