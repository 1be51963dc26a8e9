"""Asset `deduplicated`: which documents repeat others, or the perplexity set; one row per document.

After it runs, `attributes/duplicates/<source>/*.jsonl.gz` stand row for row beside the documents of
`held_out`, each value as a span over the whole text with a score:

- `duplicates__text`: 1 where an earlier document has exactly this text (the first copy has none);
- `duplicates__paragraphs`: share of the text in paragraphs that an earlier one has;
- `contamination__paragraphs`: share of the text in paragraphs that the perplexity set has.

A paragraph is a line without the blanks around it, so that a docstring is found in the code that it
was taken from; shorter ones than the configured minimum never count. Nothing is removed here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import Document, shards, totals, write_documents
from olmo_core.corpus.rows import write_rows
from olmo_core.corpus.toolkit import (
    Marked,
    ToolkitCommand,
    ToolkitError,
    link_view,
    marked_files,
    run_steps,
)
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

EXPERIMENT = "duplicates"
TEXT = "duplicates__text"
PARAGRAPHS = "duplicates__paragraphs"
CONTAMINATION = "contamination__paragraphs"

# Documents of a source; "mostly": more than half of the text; "contaminated": any paragraph.
COUNTS = ("documents", "exact_duplicates", "mostly_repeated", "contaminated", "mostly_contaminated")

# With 64 bits an entry, 45 hashes: a false positive in 2**45. The toolkit seeds its hashes anew in
# every run, so this rarity is what makes two runs equal.
BLOOM_BITS_PER_ENTRY = 64


@dataclass(frozen=True, kw_only=True)
class DeduplicatedConfig(Bounded):
    """Section `deduplicated` of corpus.yaml.

    Raises:
        ValueError: a length below 1.
    """

    # shorter paragraphs never count, as duplicate or contamination
    min_paragraph_bytes: int = at_least(1, default=40)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: its lines without the blanks around them."""
    return [line.strip() for line in text.split("\n")]


def make(config: DeduplicatedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Mark duplicates by text and by paragraph, and paragraphs of the perplexity set."""
    documents = inputs["held_out"] / "documents"
    tags = inputs["tagged"] / "attributes" / "tags"
    scratch = job.scratch
    job.progress(1, 4, unit="parts", message="paragraphs")
    link_view(scratch / "text", {"documents": documents})
    with job.timed("split paragraphs"):
        lines, perplexity_set = (scratch / view / "documents" for view in ("lines", "held_out"))
        count, entries = _write_paragraphs(marked_files(documents, tags), lines, config)
        files = marked_files(inputs["held_out"] / "paloma")
        _, held_out = _write_paragraphs(files, perplexity_set, config)
    by_text = {"documents": {"attribute_name": "text", "key": "$.text"}}
    by_paragraph = {
        "paragraphs": {"attribute_name": "paragraphs"},
        "min_length": config.min_paragraph_bytes,
    }
    steps = [
        [
            _step("text", "text", by_text, scratch, entries=count),
            _step("repeated", "lines", by_paragraph, scratch, entries=entries),
            _step("held_out", "held_out", by_paragraph, scratch, entries=held_out),
        ],
        # Reads the filter that the perplexity set has filled, and adds nothing to it.
        [_step("contaminated", "lines", by_paragraph, scratch, entries=held_out, bloom="held_out")],
    ]
    job.progress(2, 4, unit="parts", message="dolma dedupe")
    with job.timed("dolma dedupe"):
        run_steps(steps, scratch, processes=2)
    job.progress(3, 4, unit="parts", message="shares")
    with job.timed("shares"):
        table, samples = _write_shares(documents, job)
    return Report(
        numbers={
            "documents": count,
            "paragraphs": entries,
            **totals(table, "exact_duplicates", "contaminated"),
            "held_out_paragraphs": held_out,
        },
        tables={"sources": table},
        samples=samples,
        data={"experiment": EXPERIMENT},
    )


def _write_paragraphs(
    files: Iterable[tuple[Path, Iterable[Marked]]], target: Path, config: DeduplicatedConfig
) -> tuple[int, int]:
    """Write the documents' paragraphs for the toolkit.

    Returns:
        Numbers of documents, and of paragraphs long enough to count.
    """
    counts: Counter[str] = Counter()

    def split(rows: Iterable[Marked]) -> Iterator[Document]:
        for document, _ in rows:
            lines = paragraphs(document.text)
            long = sum(len(line.encode()) >= config.min_paragraph_bytes for line in lines)
            counts.update(documents=1, paragraphs=long)
            yield replace(document, text="\n".join(lines), metadata={})

    for name, rows in files:
        write_documents(target / name, split(rows))
    return counts["documents"], counts["paragraphs"]


def _step(
    name: str,
    view: str,
    what: Mapping[str, Any],
    scratch: Path,
    *,
    entries: int,
    bloom: str | None = None,
) -> ToolkitCommand:
    """Return a call of dolma's deduper, by one process: two give other attributes on every run."""
    files = shards(scratch / view / "documents")
    return ToolkitCommand(
        name=name,
        kind="deduper",
        config={
            # Named one by one and sorted: which copy comes first is part of the result.
            "documents": [str(path.relative_to(scratch)) for path in files],
            "dedupe": {"name": name, "skip_empty": True, **what},
            "bloom_filter": {
                "file": f"bloom/{bloom or name}.bin",
                "read_only": bloom is not None,
                "size_in_bytes": max(entries, 64) * BLOOM_BITS_PER_ENTRY // 8,
                "estimated_doc_count": max(entries, 64),
                "desired_false_positive_rate": 0.0,
            },
            "work_dir": {"input": "dolma/input", "output": "dolma/output"},
            "processes": 1,
        },
    )


def _write_shares(documents: Path, job: Job) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Turn the toolkit's spans into shares of each document; return the table and samples."""
    spans = [
        job.scratch / "text" / "attributes" / "text",
        job.scratch / "lines" / "attributes" / "repeated",
        job.scratch / "lines" / "attributes" / "contaminated",
    ]
    table: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[str]] = {"exact duplicates": [], "contaminated": []}
    for name, rows in marked_files(documents, *spans):
        source = name.parts[0]
        row = table.setdefault(source, {"source": source, **dict.fromkeys(COUNTS, 0)})
        attributes = _attributes(rows, row, samples)
        write_rows(job.folder / "attributes" / EXPERIMENT / name, attributes)
    return list(table.values()), samples


def _attributes(
    rows: Iterable[Marked], row: dict[str, Any], samples: Mapping[str, list[str]]
) -> Iterator[dict[str, Any]]:
    """Yield the attributes of each document, counted in the table's row, some shown as samples."""
    for document, marks in rows:
        spans: list[Any] = [next(iter(mark.values()), None) or [] for mark in marks]
        # A blank-free line is as long in the view as here; the separators count as text too.
        length = sum(map(len, paragraphs(document.text))) + document.text.count("\n")
        repeated, contaminated = (covered_share(each, length, document.id) for each in spans[1:])
        copied = bool(spans[0])
        row["documents"] += 1
        row["exact_duplicates"] += copied
        row["mostly_repeated"] += repeated > 0.5
        row["contaminated"] += contaminated > 0
        row["mostly_contaminated"] += contaminated > 0.5
        for label, hit in (("exact duplicates", copied), ("contaminated", contaminated > 0.5)):
            if hit and len(samples[label]) < 5:
                samples[label].append(document.sample(characters=200))
        whole = [0, len(document.text)]
        values = {
            TEXT: [[*whole, 1.0]] if copied else [],
            PARAGRAPHS: [[*whole, repeated]],
            CONTAMINATION: [[*whole, contaminated]],
        }
        yield {"id": document.id, "attributes": values}


def covered_share(spans: Sequence[Sequence[float]], length: int, document_id: str) -> float:
    """Return the share of a text of `length` characters in spans, rounded to six digits.

    The toolkit's last span can be one too long on a text that is not ASCII.

    Raises:
        ToolkitError: the spans cover more than the text.
    """
    covered = sum(end - start for start, end, _ in spans)
    if covered > length + 1:
        raise ToolkitError(f"{document_id}: spans cover {covered} of {length} characters")
    return round(min(covered / length, 1.0), 6)


if __name__ == "__main__":
    run_job(DeduplicatedConfig, make)
