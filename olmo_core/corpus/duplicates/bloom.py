"""Copies of texts and paragraphs found by the dolma toolkit's Bloom filters, by one process.

The filters lie in memory whole, 64 bits an entry: for a machine that has it, and to compare with.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import Document, shards, write_documents
from olmo_core.corpus.duplicates.marks import COPIES, TEXT, Mark, paragraphs, write_marks
from olmo_core.corpus.toolkit import (
    Marked,
    ToolkitCommand,
    ToolkitError,
    link_view,
    marked_files,
    run_steps,
)
from olmo_core.run.job import Job

# With 64 bits an entry, 45 hashes: a false positive in 2**45. The toolkit seeds its hashes anew in
# every run, so this rarity is what makes two runs equal.
BLOOM_BITS_PER_ENTRY = 64


def mark_copies(
    documents: Path, paloma: Path, attributes: Path, job: Job, *, min_bytes: int
) -> tuple[list[dict[str, Any]], int]:
    """Write what each document repeats as attributes, shard by shard.

    Args:
        documents: The folder of shards.
        paloma: The perplexity set.
        attributes: Where to write, under the shards' names.
        job: Its scratch folder holds the toolkit's view.
        min_bytes: Shorter paragraphs do not count.

    Returns:
        What `write_marks` says of each shard, in order; the number of paragraphs that count.
    """
    scratch = job.scratch
    job.progress(1, 4, unit="parts", message="paragraphs")
    link_view(scratch / "text", {"documents": documents})
    lines, perplexity_set = (scratch / view / "documents" for view in ("lines", "held_out"))
    count, entries = _write_paragraphs(marked_files(documents), lines, min_bytes)
    by_text = {"documents": {"attribute_name": "text", "key": "$.text"}}
    by_paragraph = {"paragraphs": {"attribute_name": "paragraphs"}, "min_length": min_bytes}
    side_by_side = [
        _step("text", "text", by_text, scratch, entries=count),
        _step("repeated", "lines", by_paragraph, scratch, entries=entries),
    ]
    stages = [side_by_side]
    if paloma.exists():
        _, held_out = _write_paragraphs(marked_files(paloma), perplexity_set, min_bytes)
        side_by_side.append(_step("held_out", "held_out", by_paragraph, scratch, entries=held_out))
        # Reads the filter that the perplexity set has filled, and adds nothing to it.
        reader = _step(
            "contaminated", "lines", by_paragraph, scratch, entries=held_out, bloom="held_out"
        )
        stages.append([reader])
    job.progress(2, 4, unit="parts", message="dolma dedupe")
    run_steps(stages, scratch, processes=2)
    job.progress(3, 4, unit="parts", message="shares")
    spans = [
        scratch / "text" / "attributes" / "text",
        scratch / "lines" / "attributes" / "repeated",
        *([scratch / "lines" / "attributes" / "contaminated"] if paloma.exists() else []),
    ]
    found = [
        write_marks(attributes / name, _marks(rows), copies=[TEXT])
        for name, rows in marked_files(documents, *spans)
    ]
    return found, entries


def _write_paragraphs(
    files: Iterable[tuple[Path, Iterable[Marked]]], target: Path, min_bytes: int
) -> tuple[int, int]:
    """Write the documents' paragraphs for the toolkit.

    Returns:
        Numbers of documents, and of paragraphs long enough to count.
    """
    counts: Counter[str] = Counter()

    def split(rows: Iterable[Marked]) -> Iterator[Document]:
        for document, _ in rows:
            lines = paragraphs(document.text)
            long = sum(len(line.encode()) >= min_bytes for line in lines)
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


def _marks(rows: Iterable[Marked]) -> Iterator[Mark]:
    for document, marks in rows:
        spans: list[Any] = [next(iter(mark.values()), None) or [] for mark in marks]
        copied, repeated, *contaminated = spans
        # A blank-free line is as long in the view as here; the separators count as text too.
        length = sum(map(len, paragraphs(document.text))) + document.text.count("\n")
        yield Mark(
            id=document.id,
            characters=len(document.text),
            copied=COPIES[TEXT] if copied else 0,
            repeated=covered_share(repeated, length, document.id),
            contaminated=covered_share([*chain(*contaminated)], length, document.id),
        )


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
