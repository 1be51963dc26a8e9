"""The attributes of duplicates and contamination, whoever found them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.corpus.rows import write_rows

TEXT = "duplicates__text"
PARAGRAPHS = "duplicates__paragraphs"
CONTAMINATION = "contamination__paragraphs"

# Documents of a shard; "mostly": more than half of the text; "contaminated": any paragraph.
COUNTS = ("documents", "exact_duplicates", "mostly_repeated", "contaminated", "mostly_contaminated")
SAMPLES = 5  # of a kind in a shard


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What one document repeats."""

    id: str
    characters: int  # of its text
    copied: bool  # an earlier document has exactly this text
    repeated: float  # share of the text in paragraphs that stood before
    contaminated: float  # share of the text in paragraphs of the perplexity set


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: its lines without the blanks around them."""
    return [line.strip() for line in text.split("\n")]


def write_marks(path: Path, marks: Iterable[Mark]) -> dict[str, Any]:
    """Write the attributes of a shard's documents, row for row.

    Returns:
        `COUNTS` of the shard; `samples`: label -> the lines of the first documents to show.
    """
    counts: dict[str, Any] = dict.fromkeys(COUNTS, 0)
    samples: dict[str, list[int]] = {"exact duplicates": [], "contaminated": []}
    write_rows(path, _rows(marks, counts, samples))
    return {**counts, "samples": samples}


def _rows(
    marks: Iterable[Mark], counts: dict[str, Any], samples: dict[str, list[int]]
) -> Iterator[dict[str, Any]]:
    for line, mark in enumerate(marks, start=1):
        counts["documents"] += 1
        counts["exact_duplicates"] += mark.copied
        counts["mostly_repeated"] += mark.repeated > 0.5
        counts["contaminated"] += mark.contaminated > 0
        counts["mostly_contaminated"] += mark.contaminated > 0.5
        for label, hit in (
            ("exact duplicates", mark.copied),
            ("contaminated", mark.contaminated > 0.5),
        ):
            if hit and len(samples[label]) < SAMPLES:
                samples[label].append(line)
        whole = [0, mark.characters]
        values = {
            TEXT: [[*whole, 1.0]] if mark.copied else [],
            PARAGRAPHS: [[*whole, mark.repeated]],
            CONTAMINATION: [[*whole, mark.contaminated]],
        }
        yield {"id": mark.id, "attributes": values}
