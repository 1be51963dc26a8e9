"""Asset `decontaminated`: how much of an evaluation text each document holds; one row per document.

After it runs, `attributes/evaluation/<source>/*.jsonl.gz` stand row for row beside the documents
of `held_out`; `evaluation__covered` is the largest share of one evaluation text that the
document covers. Evaluated are the held-out documents, the questions of the recipe's downstream
tasks, and the texts in folders that the section names (Paloma's, say). Nothing is removed here.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.corpus.document import Document, read_documents, shards, totals
from olmo_core.corpus.duplicates.contamination import ATTRIBUTE, EvaluationTexts
from olmo_core.corpus.intake.sources import expanded
from olmo_core.corpus.rows import check_row, read_rows, write_rows
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.task_data import questions
from olmo_core.files import read_json, sha256_file
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

EXPERIMENT = "evaluation"
FOUND = 0.5  # of an evaluation text's words: what tables and samples call found
SAMPLES = 10
# Documents of a file: all, those with a run of words in common, those with half a text or more.
COUNTS = ("documents", "touched", "with_evaluation_text")


@dataclass(frozen=True, kw_only=True)
class DecontaminatedConfig(Bounded):
    """Section `decontaminated` of corpus.yaml.

    Raises:
        ValueError: a number out of range.
    """

    run_words: int = at_least(2, default=13)  # words in a row that both texts have
    min_words: int = at_least(2, default=8)  # shorter evaluation texts are found by chance
    folders: tuple[str, ...] = ()  # of JSON lines with a text each, as Paloma's
    # of an evaluation text, in a document that is kept; more, and nothing is trained
    max_share: float = above(0, at_most=1, default=0.8)
    unchecked_sources: tuple[str, ...] = ()  # may hold more: their texts are alike by nature
    tasks: tuple[str, ...] = ()  # set by the graph: the recipe's downstream tasks


def evaluation_identity(config: DecontaminatedConfig) -> dict[str, Any]:
    """Return the digests of the files in the folders, part of the fingerprint; else nothing.

    Raises:
        ConfigError: a folder is missing, or holds no such file.
    """
    files = {folder: _files(folder) for folder in config.folders}
    digests = {
        folder: [sha256_file(path) for path in found.values()] for folder, found in files.items()
    }
    return {"folders_sha256": digests} if digests else {}


def make(config: DecontaminatedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Index the evaluation texts, then look for them in every document, file by file."""
    documents = inputs["held_out"] / "documents"
    reads = f"{read_json(inputs['held_out'] / 'result.json')['digest']} {config}"
    index = job.scratch / "evaluation"
    write = partial(write_index, config, inputs["held_out"] / "paloma")
    with job.timed("index evaluation texts"):
        [sets] = map_tasks(
            [Task(name="index", reads=reads, output=index, call=write)], job, unit="indexes"
        )
    target = job.folder / "attributes" / EXPERIMENT
    names = [path.relative_to(documents) for path in shards(documents)]
    with job.timed("look for them"):
        tasks = [
            Task(
                name=f"look in {name}",
                reads=reads,
                output=target / name,
                call=partial(mark_file, documents / name, index),
            )
            for name in names
        ]
        found = map_tasks(tasks, job, unit="files")
    table, held = _by_source(names, found), _by_set(sets, found)
    return Report(
        numbers={
            **totals(table, "documents", "with_evaluation_text"),
            **totals(held, "texts", "too_short", "found"),
        },
        tables={"sources": table, "evaluation texts": held},
        samples={"found": _samples(sets, found)},
        data={
            "experiment": EXPERIMENT,
            "max_share": config.max_share,
            "unchecked_sources": list(config.unchecked_sources),
        },
    )


def evaluation_texts(config: DecontaminatedConfig, held_out: Path) -> Iterator[tuple[str, str]]:
    """Yield each text with the name of its set: a domain, a task, or a folder below a folder."""
    for path in shards(held_out) if held_out.exists() else ():  # a recipe may hold nothing out
        for row in read_rows(path):
            yield f"held_out/{path.relative_to(held_out).parts[0]}", row["text"]
    for folder in config.folders:
        for name, path in _files(folder).items():
            for line, row in enumerate(read_rows(path), start=1):
                check_row(row, f"{path}:{line}", ("text",))
                yield name.split("/")[0], row["text"]
    for task in config.tasks:
        for text in questions(task):
            yield task, text


def _files(folder: str) -> dict[str, Path]:
    """Return the JSON-lines files below a folder, by relative path, sorted.

    Raises:
        ConfigError: it is missing, or holds none.
    """
    root, now = expanded(folder)
    found = sorted(path for end in ("jsonl", "jsonl.gz") for path in root.rglob(f"*.{end}"))
    if not found:
        raise ConfigError(
            f"decontaminated: folders: {folder!r} ({now}): expected a folder with *.jsonl or "
            "*.jsonl.gz below it, as Paloma's; ~ and ${VARIABLES} are expanded"
        )
    return {path.relative_to(root).as_posix(): path for path in found}


def write_index(
    config: DecontaminatedConfig, held_out: Path, out: Path
) -> dict[str, dict[str, int]]:
    """Index all evaluation texts in the folder `out`.

    Returns:
        By set: `texts`, and how many are `too_short`; the sets in the order of their texts.
    """
    sets: dict[str, int] = defaultdict(int)

    def texts() -> Iterator[str]:
        for name, text in evaluation_texts(config, held_out):
            sets[name] += 1
            yield text

    if next(evaluation_texts(config, held_out), None) is None:
        raise InputError(
            "decontaminated: no evaluation text: nothing is held out (held_out: share), and "
            "neither `folders` nor a task of evals.yaml has any; remove the section, or name some"
        )
    index = EvaluationTexts.of(texts(), run_words=config.run_words, min_words=config.min_words)
    index.save(out)
    words = np.diff(index.begins)
    ends = np.cumsum(list(sets.values()))
    short = [int((part < config.min_words).sum()) for part in np.split(words, ends[:-1])]
    return {
        name: {"texts": number, "too_short": few}
        for (name, number), few in zip(sets.items(), short, strict=True)
    }


@cache
def _index(folder: Path) -> EvaluationTexts:
    return EvaluationTexts.load(folder)


def mark_file(path: Path, index: Path, out: Path) -> dict[str, Any]:
    """Write the attributes of one document file; runs in a process of its own.

    Returns:
        The COUNTS; `found`: per document and evaluation text in it, the text's number, its share
        and a sample.
    """
    texts = _index(index)
    counts = dict.fromkeys(COUNTS, 0)
    found: list[dict[str, Any]] = []

    def rows() -> Iterator[dict[str, Any]]:
        for document in read_documents(path):
            covered = texts.covered(document.text)
            counts["documents"] += 1
            counts["touched"] += bool(covered)
            found.extend(_found(document, covered))
            most = max((share for _, share in covered), default=0.0)
            counts["with_evaluation_text"] += most >= FOUND
            spans = [[0, len(document.text), round(most, 6)]] if covered else []
            yield {"id": document.id, "attributes": {ATTRIBUTE: spans}}

    write_rows(out, rows())
    return {**counts, "found": found}


def _found(document: Document, covered: Sequence[tuple[int, float]]) -> Iterator[dict[str, Any]]:
    for number, share in covered:
        if share >= FOUND:
            yield {"text": number, "share": share, "sample": document.sample(characters=200)}


def _by_source(names: Sequence[Path], found: Sequence[Any]) -> list[dict[str, Any]]:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for name, file in zip(names, found, strict=True):
        rows[name.parts[0]].update({column: file[column] for column in COUNTS})
    return [{"source": name, **row} for name, row in rows.items()]


def _samples(sets: Mapping[str, Mapping[str, int]], found: Sequence[Any]) -> list[str]:
    """Return the documents that hold most of an evaluation text, each with what it holds."""
    names, ends = list(sets), list(accumulate(counts["texts"] for counts in sets.values()))
    every: list[Any] = [each for file in found for each in file["found"]]
    every.sort(key=lambda each: -each["share"])
    return [
        f"{each['share']:.0%} of a text of {names[bisect_right(ends, each['text'])]} in "
        + each["sample"]
        for each in every[:SAMPLES]
    ]


def _by_set(sets: Mapping[str, Mapping[str, int]], found: Sequence[Any]) -> list[dict[str, Any]]:
    most: dict[int, float] = {}
    for file in found:
        for each in file["found"]:
            most[each["text"]] = max(each["share"], most.get(each["text"], 0.0))
    table: list[dict[str, Any]] = []
    begin = 0
    for name, counts in sets.items():
        shares = [most[n] for n in range(begin, begin + counts["texts"]) if n in most]
        begin += counts["texts"]
        table.append(
            {
                "set": name,
                **counts,
                "found": len(shares),
                "whole": sum(share >= 0.999 for share in shares),
            }
        )
    return table


if __name__ == "__main__":
    run_job(DecontaminatedConfig, make)
