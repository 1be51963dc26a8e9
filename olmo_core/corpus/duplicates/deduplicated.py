"""Asset `deduplicated`: which documents repeat others, or the perplexity set; one row per document.

After it runs, `attributes/duplicates/<source>/*.jsonl.gz` stand row for row beside the documents of
`held_out`, each value as a span over the whole text with a score:

- `duplicates__text`: 1 where an earlier document has exactly this text (the first copy has none);
- `duplicates__near`: 1 where an earlier one of those left is a near copy, itself or through a chain
  (the first of a cluster has none);
- `duplicates__url`: 1 where an earlier document has the same `url` in its metadata, and is no piece
  of the same text;
- `duplicates__id`: 1 where an earlier document had the same id, before `raw` has made it unique;
- `duplicates__earlier`, where the recipe names earlier corpora: 1 where any of these four is due to
  a document of theirs;
- `duplicates__paragraphs`: share of the text in paragraphs that an earlier one has;
- `contamination__paragraphs`: share of the text in paragraphs that the perplexity set has.

A paragraph is a line without the blanks around it, so that a docstring is found in the code that it
was taken from; shorter ones than the configured minimum never count. Documents of earlier corpora
stand before all others, and have no row. Nothing is removed here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import read_documents, shards, totals
from olmo_core.corpus.duplicates import bloom, copies
from olmo_core.corpus.duplicates.digests import held_out_digests
from olmo_core.corpus.duplicates.earlier import EarlierCorpora
from olmo_core.corpus.duplicates.marks import COPY_COUNTS, SAMPLES
from olmo_core.corpus.duplicates.remaining import CLUSTERS_FILE
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

EXPERIMENT = "duplicates"


@dataclass(frozen=True, kw_only=True)
class DeduplicatedConfig(Bounded):
    """Section `deduplicated` of corpus.yaml.

    Raises:
        ValueError: a length below 1; earlier corpora and the toolkit's engine.
    """

    # shorter paragraphs never count, as duplicate or contamination
    min_paragraph_bytes: int = at_least(1, default=40)
    # digests that are shuffled, by all processes; or the toolkit's Bloom filters, in memory, by one
    engine: Literal["keys", "dolma"] = "keys"
    earlier: tuple[str, ...] = ()  # set by the graph: those of near_duplicates

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine == "dolma" and self.earlier:
            raise ValueError(
                "engine is 'dolma', which compares with no earlier corpus; expected 'keys', or no "
                "near_duplicates: earlier"
            )


def make(config: DeduplicatedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Mark duplicates by text and by paragraph, and paragraphs of the perplexity set."""
    held_out = inputs["held_out"]
    documents, paloma = held_out / "documents", held_out / "paloma"
    attributes = job.folder / "attributes" / EXPERIMENT
    earlier = EarlierCorpora.of(config.earlier)
    earlier.require_record(held_out)
    least = config.min_paragraph_bytes
    with job.timed("mark copies"):
        if config.engine == "dolma":
            found, count = bloom.mark_copies(documents, paloma, attributes, job, min_bytes=least)
        else:
            found, count = copies.mark_copies(
                documents,
                paloma,
                held_out / CLUSTERS_FILE,
                attributes,
                job,
                reads=read_json(held_out / "result.json")["digest"],
                min_bytes=least,
                earlier=earlier.files,
            )
    table = _table(documents, found)
    return Report(
        numbers={
            **totals(table, "documents"),
            "paragraphs": count,
            **totals(table, *(name for name in COPY_COUNTS.values() if name in table[0])),
            **totals(table, "contaminated"),
            "held_out_paragraphs": len(held_out_digests(paloma, least)),
        },
        tables={"sources": table},
        samples=_samples(documents, found),
        data={"experiment": EXPERIMENT},
    )


def _table(documents: Path, found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the counts of the shards by source."""
    table: dict[str, dict[str, Any]] = {}
    for path, counts in zip(shards(documents), found, strict=True):
        source = path.relative_to(documents).parts[0]
        row = table.setdefault(source, {"source": source})
        for name, count in counts["counts"].items():
            row[name] = row.get(name, 0) + count
    return list(table.values())


def _samples(documents: Path, found: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the beginning of the first documents of each kind."""
    samples: dict[str, list[str]] = {}
    for path, counts in zip(shards(documents), found, strict=True):
        for label, lines in counts["samples"].items():
            shown = samples.setdefault(label, [])
            for line in lines[: SAMPLES - len(shown)]:
                document = next(islice(read_documents(path), line - 1, None))
                shown.append(document.sample(characters=200))
    return samples


if __name__ == "__main__":
    run_job(DeduplicatedConfig, make)
