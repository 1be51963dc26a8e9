"""Asset `documents`: the index of all documents, tokenised or left out; one row per document.

After it runs, `olmo_core.data.document_index` answers which document a token belongs to, and where
the document of an id, a URL or a SHA-1 lies. Token files and document files are read side by side;
what is known of a document from either meets by the digest of its id, partition by partition, so a
process holds one file's rows or one partition's. Documents that `raw`, `held_out` and `filtered`
left out are in it with the reason, but for quarantined ones, which may have no id. Of published
token files there are rows alone: no URL, length or SHA-1.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import DROPPED_FOLDER, excluded_shards, shards, totals
from olmo_core.corpus.index.collect import (
    digest_dropped,
    digest_places,
    digest_texts,
    place_documents,
)
from olmo_core.corpus.index.partition import WRITTEN, write_dropped, write_ids, write_keys
from olmo_core.corpus.tokens.listing import listed_times
from olmo_core.data.format import open_token_file
from olmo_core.errors import InputError
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

PARTITION_DOCUMENTS = 1 << 20  # at most, about: 0.6 GiB while they are sorted


@dataclass(frozen=True, kw_only=True)
class DocumentsConfig:
    """Section `documents` of corpus.yaml: nothing to choose."""


def make(config: DocumentsConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Collect rows from token files and document files, and write them by place and by digest."""
    root, filtered = inputs["tokens"], inputs.get("filtered")
    files = sorted((root / "tokens").rglob("*.npy"))
    if not files:
        raise InputError(f"{root / 'tokens'}: no token file")
    headers = [open_token_file(path, need_header=True).header for path in files]
    documents = sum(header.documents for header in headers if header is not None)
    partitions = 1 << (documents // PARTITION_DOCUMENTS).bit_length()
    reads = " ".join(str(read_json(run / "result.json")["digest"]) for run in inputs.values())
    task = partial(_task, reads=f"{reads} {partitions}")
    names = [path.relative_to(root).as_posix() for path in files]
    placed = [
        task(name, job.folder / "places" / f"{name}.parquet", place_documents, path)
        for name, path in zip(names, files, strict=True)
    ]
    with job.timed("places"):
        lengths = map_tasks(placed, job, unit="token files")
    of_places = [
        task(
            f"places of {name}",
            job.scratch / "places" / f"{number:06d}.arrow",
            *(digest_places, each.output, name, partitions),
        )
        for number, (name, each) in enumerate(zip(names, placed, strict=True))
    ]
    places, texts, dropped = (job.scratch / name for name in ("places", "texts", "dropped"))
    of_texts = [
        task(f"texts {n} of {path.name}", texts / f"{n:06d}", digest_texts, path, partitions)
        for n, path in enumerate(shards(filtered / "documents") if filtered else [])
    ]
    left_out = _left_out_files(inputs)
    of_dropped = [
        task(f"left out {n}", dropped / f"{n:06d}", digest_dropped, path, asset, partitions)
        for n, (asset, path) in enumerate(left_out)
    ]
    with job.timed("digest"):
        digested = map_tasks([*of_dropped, *of_places, *of_texts], job, unit="files")
    reasons = _reasons(left_out, digested[: len(left_out)])
    _require_dropped(filtered, reasons)
    without_text = frozenset(name.split("/")[1] for name in listed_times(root))
    partition = [(number, f"part-{number:05d}.parquet") for number in range(partitions)]
    parts = [
        *(
            task(f"ids {n}", job.folder / "ids" / out, write_ids, places, texts, n, without_text)
            for n, out in partition
        ),
        *(
            task(f"dropped {n}", job.folder / "dropped" / out, write_dropped, dropped, n)
            for n, out in partition
        ),
        *(
            task(f"{kind} {n}", job.folder / kind / out, write_keys, (texts, dropped), kind, n)
            for kind in ("urls", "texts")
            for n, out in partition
        ),
    ]
    with job.timed("write"):
        written = totals(map_tasks(parts, job, unit="partitions")[:partitions], *WRITTEN)
    if written["documents"] != documents:
        raise RuntimeError(
            f"{written['documents']} documents in the index, {documents} in token files"
        )
    return report(names, lengths, partitions, repeated_ids=written["repeated_ids"], reasons=reasons)


def _left_out_files(inputs: Mapping[str, Path]) -> list[tuple[str, Path]]:
    """Return the files that tell of documents left out, each with the asset that did."""
    files: list[tuple[str, Path]] = []
    if "raw" in inputs:
        files += [("raw", path) for path in excluded_shards(inputs["raw"])]
    if "held_out" in inputs:
        files.append(("held_out", inputs["held_out"] / "held_out.jsonl.gz"))
    if "filtered" in inputs:
        found = sorted((inputs["filtered"] / DROPPED_FOLDER).rglob("*.jsonl.gz"))
        files += [("filtered", path) for path in found]
    return files


def _reasons(
    files: Sequence[tuple[str, Path]], found: Sequence[Mapping[str, int]]
) -> Counter[tuple[str, str]]:
    """Return the documents left out by asset and reason, in the order of the files."""
    reasons: Counter[tuple[str, str]] = Counter()
    for (asset, _), counts in zip(files, found, strict=True):
        reasons.update({(asset, reason): count for reason, count in sorted(counts.items())})
    return reasons


def _require_dropped(filtered: Path | None, reasons: Mapping[tuple[str, str], int]) -> None:
    """Refuse documents that `filtered` counts as dropped and does not name."""
    if filtered is None:
        return
    expected = read_json(filtered / "result.json")["report"]["numbers"]["dropped"]
    named = sum(count for (asset, _), count in reasons.items() if asset == "filtered")
    if named != expected:
        raise InputError(
            f"{filtered}: dropped {expected} documents, and {DROPPED_FOLDER}/ names {named}; "
            "expected all of them: make it anew"
        )


def _task(name: str, output: Path, call: Callable[..., Any], *inputs: Any, reads: str) -> Task:
    return Task(name=name, reads=reads, output=output, call=partial(call, *inputs))


def report(
    files: Sequence[str],
    lengths: Sequence[Mapping[str, Any]],
    partitions: int,
    *,
    repeated_ids: int,
    reasons: Mapping[tuple[str, str], int],
) -> Report:
    """Return the figures.

    Args:
        files: Names of the token files.
        lengths: What `place_documents` says of each.
        partitions: How many there are.
        repeated_ids: Documents without text whose id another has too.
        reasons: Asset and reason -> the documents left out.
    """
    by_source: dict[str, Counter[int]] = defaultdict(Counter)
    longest: Counter[str] = Counter()
    numbers = {"documents": 0, "tokens": 0}
    for name, found in zip(files, lengths, strict=True):
        numbers["documents"] += sum(found["documents"].values())
        numbers["tokens"] += found["tokens"]
        source = name.split("/")[1]
        longest[source] = max(longest[source], found["longest"])
        for length, count in found["documents"].items():
            by_source[source][int(length)] += count
    return Report(
        numbers={
            **numbers,
            "files": len(files),
            "partitions": partitions,
            "repeated_ids": repeated_ids,
            "left_out": sum(reasons.values()),
        },
        tables={
            "tokens_per_document": [
                _row(source, found, longest[source]) for source, found in sorted(by_source.items())
            ],
            "lengths": _lengths(by_source.values()),
            "left_out": [
                {"asset": asset, "reason": reason, "documents": count}
                for (asset, reason), count in reasons.items()
            ],
        },
    )


def _lengths(by_source: Iterable[Mapping[int, int]]) -> list[dict[str, int]]:
    """Return the documents by length: of more than half of `tokens_up_to`, and at most that."""
    counted: Counter[int] = Counter()
    for lengths in by_source:
        for length, count in lengths.items():
            counted[(length - 1).bit_length()] += count
    return [
        {"tokens_up_to": 1 << power, "documents": counted[power]}
        for power in range(min(counted), max(counted) + 1)
    ]


def _row(source: str, counted: Mapping[int, int], longest: int) -> dict[str, int | str]:
    lengths = np.array(sorted(counted), dtype=np.int64)
    ends = np.cumsum([counted[length] for length in lengths.tolist()])
    total = int(ends[-1])
    low, middle, high = (
        int(lengths[int(np.searchsorted(ends, share * total))]) for share in (0.1, 0.5, 0.9)
    )
    return {
        "source": source,
        "documents": total,
        "p10": low,
        "median": middle,
        "p90": high,
        "longest": longest,
    }


if __name__ == "__main__":
    run_job(DocumentsConfig, make)
