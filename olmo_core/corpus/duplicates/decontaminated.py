"""Asset `decontaminated`: how much of an evaluation text each document holds; one row per document.

After it runs, `attributes/evaluation/<source>/*.jsonl.gz` stand row for row beside the documents
of `held_out`; `evaluation__covered` is the largest share of one evaluation text that the
document covers. Evaluated are the held-out documents, the questions of the recipe's downstream
tasks, and the texts in folders that the section names (Paloma's, say). Nothing is removed here.
"""

from base64 import b64decode, b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from heapq import nlargest
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.config.paths import expanded
from olmo_core.corpus.document import read_documents, shards, totals
from olmo_core.corpus.duplicates.contamination import EvaluationTexts
from olmo_core.corpus.filters.names import EVALUATION_COVERED
from olmo_core.corpus.rows import check_row, read_rows, write_rows
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.task_rows import questions
from olmo_core.evals.task_sources import questions_identity
from olmo_core.files import read_json, sha256_file
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

EXPERIMENT = "evaluation"
FOUND = 0.5  # of an evaluation text's words: what tables and samples call found
WHOLE = 0.999
SAMPLES = 10
SET_OF_TEXT = "set_of_text.npy"  # beside the index
# What a file has of each evaluation text that was found. Packed: all files' are held at once.
MOST = np.dtype([("text", np.uint32), ("share", np.float32)])
# Documents of a file: all, those with a run of words in common, those with half a text or more.
COUNTS = ("documents", "touched", "with_evaluation_text")


@dataclass(frozen=True, kw_only=True)
class DecontaminatedConfig(Bounded):
    """Section `decontaminated` of corpus.yaml, but for the bounds of the check on `filtered`.

    Raises:
        ValueError: a number out of range.
    """

    run_words: int = at_least(2, default=13)  # words in a row that both texts have
    min_words: int = at_least(2, default=8)  # shorter evaluation texts are found by chance
    folders: tuple[str, ...] = ()  # of JSON lines with a text each, as Paloma's
    tasks: tuple[str, ...] = ()  # set by the graph: the data sets of the recipe's downstream tasks


def evaluation_identity(config: DecontaminatedConfig) -> dict[str, Any]:
    """Return the digests of the files in the folders, and what the tasks' questions depend on.

    Both are part of the fingerprint.

    Raises:
        ConfigError: a folder is missing, or holds no such file.
    """
    digests = {
        folder: {name: sha256_file(path) for name, path in _files(folder).items()}
        for folder in config.folders
    }
    folders = {"folders_sha256": digests} if digests else {}
    return {**folders, **questions_identity(config.tasks)}


def make(config: DecontaminatedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Index the evaluation texts, then look for them in every document, file by file."""
    documents = inputs["held_out"] / "documents"
    held_out = read_json(inputs["held_out"] / "result.json")["digest"]
    reads = f"{held_out} {config} {evaluation_identity(config)}"
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
    table, held = _by_source(names, found), _by_set(sets, index, found)
    return Report(
        numbers={
            **totals(table, "documents", "with_evaluation_text"),
            **totals(held, "texts", "too_short", "found"),
        },
        tables={"sources": table, "evaluation texts": held},
        samples={"found": _samples(list(sets), index, [documents / name for name in names], found)},
        data={"experiment": EXPERIMENT},
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
        By set: `texts`, and how many are `too_short`. `SET_OF_TEXT` holds the number of each text's
        set in this order.
    """
    sets: dict[str, int] = {}
    set_of_text: list[int] = []

    def texts() -> Iterator[str]:
        for name, text in evaluation_texts(config, held_out):
            set_of_text.append(sets.setdefault(name, len(sets)))
            yield text

    if next(evaluation_texts(config, held_out), None) is None:
        raise InputError(
            "decontaminated: no evaluation text: nothing is held out (held_out: share), and "
            "neither `folders` nor a task of evals.yaml has any; remove the section, or name some"
        )
    index = EvaluationTexts.of(texts(), run_words=config.run_words, min_words=config.min_words)
    index.save(out)
    numbers = np.array(set_of_text)
    np.save(out / SET_OF_TEXT, numbers)
    short = np.diff(index.begins) < config.min_words
    counts = (np.bincount(of, minlength=len(sets)).tolist() for of in (numbers, numbers[short]))
    return {
        name: {"texts": texts, "too_short": few}
        for name, texts, few in zip(sets, *counts, strict=True)
    }


@cache
def _index(folder: Path) -> EvaluationTexts:
    return EvaluationTexts.load(folder)


def mark_file(path: Path, index: Path, out: Path) -> dict[str, Any]:
    """Write the attributes of one document file; runs in a process of its own.

    Returns:
        The COUNTS; `most`: an array of `MOST`, packed, a row per evaluation text that was found;
        `samples`: the documents that hold most of one, as its share, its number and their line.
    """
    texts = _index(index)
    counts = dict.fromkeys(COUNTS, 0)
    shares: dict[int, float] = {}
    samples: list[tuple[float, int, int]] = []

    def rows() -> Iterator[dict[str, Any]]:
        for line, document in enumerate(read_documents(path), start=1):
            covered = texts.covered(document.text)
            found = [(share, number, line) for number, share in covered if share >= FOUND]
            for share, number, _ in found:
                shares[number] = max(share, shares.get(number, 0.0))
            if found:
                samples[:] = nlargest(SAMPLES, [*samples, *found], key=itemgetter(0))
            counts["documents"] += 1
            counts["touched"] += bool(covered)
            counts["with_evaluation_text"] += bool(found)
            most = max((share for _, share in covered), default=0.0)
            spans = [[0, len(document.text), round(most, 6)]] if covered else []
            yield {"id": document.id, "attributes": {EVALUATION_COVERED: spans}}

    write_rows(out, rows())
    most = np.array(list(shares.items()), MOST)
    return {**counts, "most": b64encode(most.tobytes()).decode(), "samples": samples}


def _by_source(names: Sequence[Path], found: Sequence[Any]) -> list[dict[str, Any]]:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for name, file in zip(names, found, strict=True):
        rows[name.parts[0]].update({column: file[column] for column in COUNTS})
    return [{"source": name, **row} for name, row in rows.items()]


def _samples(
    sets: Sequence[str], index: Path, files: Sequence[Path], found: Sequence[Any]
) -> list[str]:
    """Return the documents that hold most of an evaluation text, each with what it holds."""
    set_of_text = np.load(index / SET_OF_TEXT)
    every = (
        (*each, path) for path, file in zip(files, found, strict=True) for each in file["samples"]
    )
    return [
        f"{share:.0%} of a text of {sets[set_of_text[number]]} in "
        + next(islice(read_documents(path), line - 1, None)).sample(characters=200)
        for share, number, line, path in nlargest(SAMPLES, every, key=itemgetter(0))
    ]


def _by_set(
    sets: Mapping[str, Mapping[str, int]], index: Path, found: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return the figures of each set: texts of which half or more, and all, is in a document."""
    set_of_text = np.load(index / SET_OF_TEXT)
    most = np.zeros(len(set_of_text), np.float32)
    for file in found:
        rows = np.frombuffer(b64decode(file["most"]), MOST)
        most[rows["text"]] = np.maximum(most[rows["text"]], rows["share"])
    there, whole = (
        np.bincount(set_of_text[most >= share], minlength=len(sets)).tolist()
        for share in (FOUND, WHOLE)
    )
    return [
        {"set": name, **counts, "found": there[number], "whole": whole[number]}
        for number, (name, counts) in enumerate(sets.items())
    ]


if __name__ == "__main__":
    run_job(DecontaminatedConfig, make)
