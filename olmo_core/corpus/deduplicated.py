"""Asset `deduplicated`: which documents repeat others, or the perplexity set; one row per document.

After it runs, `attributes/duplicates/<source>/*.jsonl.gz` stand row for row beside the documents of
`held_out`, each value as a span over the whole text with a score:

- `duplicates__text`: 1 where an earlier document has exactly this text (the first copy has none);
- `duplicates__paragraphs`: share of the text in paragraphs that an earlier one has;
- `contamination__paragraphs`: share of the text in paragraphs that the perplexity set has.

A paragraph is a line without the blanks around it, so that a docstring is found in the code that it
was taken from; shorter ones than the configured minimum never count. Nothing is removed here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import (
    REQUIRED_KEYS,
    Document,
    clip,
    read_attributes,
    read_documents,
    shards,
    source_names,
    write_documents,
)
from olmo_core.corpus.rows import check_row, read_rows, write_rows
from olmo_core.corpus.toolkit import (
    ToolkitCommand,
    ToolkitError,
    check_mirror,
    check_rows,
    link_view,
    run_steps,
)
from olmo_core.errors import ConfigError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

EXPERIMENT = "duplicates"
TEXT = "duplicates__text"
PARAGRAPHS = "duplicates__paragraphs"
CONTAMINATION = "contamination__paragraphs"

# With 64 bits an entry, 45 hashes: a false positive in 2**45. The toolkit seeds its hashes anew in
# every run, so this rarity is what makes two runs equal.
BLOOM_BITS_PER_ENTRY = 64


@dataclass(frozen=True, kw_only=True)
class DeduplicatedConfig:
    """Section `deduplicated` of corpus.yaml.

    Raises:
        ConfigError: a length below 1.
    """

    min_paragraph_bytes: int = 40  # shorter paragraphs never count, as duplicate or contamination

    def __post_init__(self) -> None:
        if self.min_paragraph_bytes < 1:
            raise ConfigError(
                f"deduplicated: min_paragraph_bytes {self.min_paragraph_bytes}: expected above 0"
            )


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text: its lines without the blanks around them."""
    return [line.strip() for line in text.split("\n")]


def make(config: DeduplicatedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Mark duplicates by text and by paragraph, and paragraphs of the perplexity set."""
    documents = inputs["held_out"] / "documents"
    with job.timed("check inputs"):
        check_mirror(documents, inputs["tagged"] / "attributes" / "tags")
    job.progress(1, 4, unit="parts", message="paragraphs")
    link_view(job.scratch / "text", documents=documents)
    with job.timed("split paragraphs"):
        count, entries = _write_paragraphs(documents, job.scratch / "lines" / "documents", config)
        held_out = _write_held_out(
            inputs["held_out"] / "paloma", job.scratch / "held_out" / "documents", config
        )
    job.progress(2, 4, unit="parts", message="dolma dedupe")
    with job.timed("dolma dedupe"):
        run_steps(_steps(job.scratch, count, entries, held_out, config), job.scratch, processes=2)
    job.progress(3, 4, unit="parts", message="shares")
    with job.timed("shares"):
        table, samples = _write_shares(documents, job)
    return Report(
        numbers={
            "documents": count,
            "paragraphs": entries,
            "exact_duplicates": sum(row["exact_duplicates"] for row in table),
            "contaminated": sum(row["contaminated"] for row in table),
            "held_out_paragraphs": held_out,
        },
        tables={"sources": table},
        samples=samples,
        data={"experiment": EXPERIMENT},
    )


def _write_paragraphs(source: Path, target: Path, config: DeduplicatedConfig) -> tuple[int, int]:
    """Write the documents' paragraphs for the toolkit.

    Returns:
        Numbers of documents, and of paragraphs long enough to count.
    """
    count = entries = 0

    def stripped(path: Path) -> Iterator[Document]:
        nonlocal count, entries
        for _, document in read_documents(path):
            lines = paragraphs(document.text)
            count += 1
            entries += sum(len(line.encode()) >= config.min_paragraph_bytes for line in lines)
            yield replace(document, text="\n".join(lines), metadata={})

    for path in shards(source):
        write_documents(target / path.relative_to(source), stripped(path))
    return count, entries


def _write_held_out(paloma: Path, target: Path, config: DeduplicatedConfig) -> int:
    """Write the perplexity set's paragraphs; returns how many are long enough to count."""
    entries = 0

    def stripped(path: Path) -> Iterator[dict[str, Any]]:
        nonlocal entries
        for line_number, row in read_rows(path):
            check_row(row, f"{path}:{line_number}", REQUIRED_KEYS)
            lines = paragraphs(row["text"])
            entries += sum(len(line.encode()) >= config.min_paragraph_bytes for line in lines)
            yield {**row, "text": "\n".join(lines)}

    for path in shards(paloma):
        write_rows(target / path.relative_to(paloma), stripped(path))
    return entries


def _steps(
    scratch: Path, documents: int, entries: int, held_out: int, config: DeduplicatedConfig
) -> list[list[ToolkitCommand]]:
    by_text: Mapping[str, Any] = {"documents": {"attribute_name": "text", "key": "$.text"}}
    by_paragraph: Mapping[str, Any] = {
        "paragraphs": {
            "attribute_name": "paragraphs",
            "by_ngram": None,
            "paragraph_separator": "\n",
        },
        "min_length": config.min_paragraph_bytes,
    }
    return [
        [
            _step("text", "text", by_text, scratch, entries=documents),
            _step("repeated", "lines", by_paragraph, scratch, entries=entries),
            _step("held_out", "held_out", by_paragraph, scratch, entries=held_out),
        ],
        # Reads the filter that the perplexity set has filled, and adds nothing to it.
        [_step("contaminated", "lines", by_paragraph, scratch, entries=held_out, bloom="held_out")],
    ]


def _step(
    name: str,
    view: str,
    what: Mapping[str, Any],
    scratch: Path,
    *,
    entries: int,
    bloom: str | None = None,
) -> ToolkitCommand:
    """One call of dolma's deduper, by one process: two give other attributes on every run."""
    folder = scratch / view / "documents"
    return ToolkitCommand(
        name=name,
        kind="dedupe",
        config={
            # Named one by one and sorted: which copy comes first is part of the result.
            "documents": [
                f"{view}/documents/{path.relative_to(folder)}" for path in shards(folder)
            ],
            "dedupe": {
                "name": name,
                "skip_empty": True,
                "min_length": 0,
                "min_words": 0,
                "num_partitions": 1,
                "partition_index": 0,
                "file_partition": False,
                "document_dir": "documents",
                **what,
            },
            "bloom_filter": {
                "file": f"bloom/{bloom or name}.bin",
                "read_only": bloom is not None,
                "size_in_bytes": max(entries, 64) * BLOOM_BITS_PER_ENTRY // 8,
                "estimated_doc_count": max(entries, 64),
                "desired_false_positive_rate": 0.0,
            },
            "is_s3_volume": False,
            "work_dir": {"input": "dolma/input", "output": "dolma/output"},
            "processes": 1,
            "compression": {"input": None, "output": None},
        },
    )


def _write_shares(documents: Path, job: Job) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Turn the toolkit's spans into one share per document, checked row for row."""
    spans = {
        "text": job.scratch / "text" / "attributes" / "text",
        "repeated": job.scratch / "lines" / "attributes" / "repeated",
        "contaminated": job.scratch / "lines" / "attributes" / "contaminated",
    }
    for folder in spans.values():
        check_mirror(documents, folder)
    rows: list[dict[str, Any]] = []
    samples: dict[str, list[str]] = {"exact duplicates": [], "contaminated": []}
    for source in source_names(documents):
        row: dict[str, Any] = {
            "source": source,
            "documents": 0,
            "exact_duplicates": 0,
            "mostly_repeated": 0,  # more than half of the text in repeated paragraphs
            "contaminated": 0,  # any paragraph
            "mostly_contaminated": 0,
        }
        for path in shards(documents / source):
            name = path.relative_to(documents)
            files = {kind: folder / name for kind, folder in spans.items()}
            target = job.folder / "attributes" / EXPERIMENT / name
            write_rows(target, _share_rows(path, files, row, samples))
            check_rows(path, target)
        rows.append(row)
    return rows, samples


def _share_rows(
    path: Path, files: Mapping[str, Path], row: dict[str, Any], samples: dict[str, list[str]]
) -> Iterator[dict[str, Any]]:
    readers = zip(*(read_attributes(files[kind]) for kind in files), strict=True)
    for (_, document), marks in zip(read_documents(path), readers, strict=True):
        found: dict[str, list[Any]] = {
            kind: next(iter(mark[2].values()), None) or []
            for kind, mark in zip(files, marks, strict=True)
        }
        copied = bool(found["text"])
        # A blank-free line is as long in the view as here; the separators count as text too.
        length = sum(map(len, paragraphs(document.text))) + document.text.count("\n")
        repeated = covered_share(found["repeated"], length, files["repeated"])
        contaminated = covered_share(found["contaminated"], length, files["contaminated"])
        row["documents"] += 1
        row["exact_duplicates"] += copied
        row["mostly_repeated"] += repeated > 0.5
        row["contaminated"] += contaminated > 0
        row["mostly_contaminated"] += contaminated > 0.5
        for label, hit in (("exact duplicates", copied), ("contaminated", contaminated > 0.5)):
            if hit and len(samples[label]) < 5:
                samples[label].append(f"{document.id}\n{clip(document.text, 200)}")
        whole = [0, len(document.text)]
        yield {
            "id": document.id,
            "attributes": {
                TEXT: [[*whole, 1.0]] if copied else [],
                PARAGRAPHS: [[*whole, repeated]],
                CONTAMINATION: [[*whole, contaminated]],
            },
        }


def covered_share(spans: list[list[float]], length: int, where: Path) -> float:
    """Share of a text of `length` characters that lies in spans, rounded to six digits.

    The toolkit's last span can be one too long on a text that is not ASCII.

    Raises:
        ToolkitError: the spans cover more than the text.
    """
    covered = sum(end - start for start, end, _ in spans)
    if covered > length + 1:
        raise ToolkitError(f"{where}: spans cover {covered} of {length} characters")
    return round(min(covered / length, 1.0), 6)


if __name__ == "__main__":
    run_job(DeduplicatedConfig, make)
