"""Corpus jobs killed at moments of their work and begun again: the same bytes, nothing done twice.

A job runs in a process of its own, which kills itself with SIGKILL before one of its renames, links
or reports of progress; so every moment is met, and none depends on the clock.
"""

import functools
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.document import Document, write_shards
from olmo_core.corpus.duplicates import (
    decontaminated,
    deduplicated,
    held_out,
    keys,
    near_duplicates,
)
from olmo_core.corpus.duplicates.decontaminated import DecontaminatedConfig
from olmo_core.corpus.duplicates.deduplicated import DeduplicatedConfig
from olmo_core.corpus.duplicates.held_out import HeldOutConfig
from olmo_core.corpus.duplicates.near_duplicates import NearDuplicateConfig
from olmo_core.corpus.filters import filtered, tagged
from olmo_core.corpus.filters.filtered import FilteredConfig
from olmo_core.corpus.filters.rules import Rule
from olmo_core.corpus.filters.tagged import TaggedConfig
from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.intake import raw
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.corpus.tokens import tokens
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.files import read_json, write_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job
from olmo_core.tasks import map as task_map

NEVER = -1


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job, and in how many processes its tasks are done."""

    module: Any
    config: Any
    inputs: Mapping[str, Path]
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a job that reached its end has counted: its moments, and the tasks that it did."""

    folder: Path
    moments: int
    tasks: int


def attempt(work: Work, folder: Path, kill_at: int) -> Done | None:
    """Run a job in a new process; None where it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.module.__name__, __name__])
    ours, theirs = context.Pipe(duplex=False)
    name = work.module.__name__
    process = context.Process(
        target=_job,
        args=(name, work.config, dict(work.inputs), work.processes, folder, kill_at, theirs),
    )
    process.start()
    theirs.close()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0
    return ours.recv()


def _job(
    name: str,
    config: Any,
    inputs: Mapping[str, Path],
    processes: int,
    folder: Path,
    kill_at: int,
    done: Connection,
) -> None:
    moments = tasks = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counting(*args: Any, **options: Any) -> Any:
            nonlocal moments
            if threading.current_thread() is threading.main_thread():  # not the heartbeat
                if moments == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                moments += 1
            return call(*args, **options)

        return counting

    def marking(*args: Any) -> None:
        nonlocal tasks
        tasks += 1
        write_marker(*args)

    write_marker, task_map.write_marker = task_map.write_marker, marking
    os.replace, os.link = counted(os.replace), counted(os.link)
    Job.progress = counted(Job.progress)
    module = __import__(name, fromlist=["make"])
    keys.LEAST_BYTES = 3000  # some groups and partitions of few documents
    tagged.CHUNK_BYTES = filtered.CHUNK_BYTES = 1  # a file
    with Job.open(folder) as job:
        job.processes = processes
        job.finish(module.make(config, inputs, job))
    done.send(Done(folder=folder, moments=moments, tasks=tasks))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): (folder / path).read_bytes() for path in RunFolder(folder).outputs()} | {
        path.name: path.read_bytes() for path in folder.glob("log/quarantine/*")
    }


@pytest.fixture(scope="module")
def text_jobs(
    tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Path]
) -> dict[str, Work]:
    """The jobs between `raw` and `filtered`, over two sources of three files with copies."""
    root = tmp_path_factory.mktemp("text")
    texts = {source: [" ".join(words(n)) for n in range(30)] for source in "ab"}
    texts["b"] = [f"{text}\n{text} {n}" for n, text in enumerate(texts["b"])]
    for source, found in texts.items():
        rows = [Document(id=f"{source}/{n}", text=t, source=source) for n, t in enumerate(found)]
        size = sum(map(len, found)) // 3
        write_shards(root / "raw" / "documents" / source, rows, shard_bytes=size)
    write_json(root / "raw" / "result.json", {"digest": "of these texts"})
    inputs = {name: root / name for name in ("raw", "near_duplicates", "held_out")}
    near = Work(module=near_duplicates, config=NearDuplicateConfig(), inputs={"raw": inputs["raw"]})
    held = HeldOutConfig(share=0.1, min_documents=3, max_cluster_share=0.2)
    held = Work(
        module=held_out, config=held, inputs={n: inputs[n] for n in ("raw", "near_duplicates")}
    )
    for name, work in (("near_duplicates", near), ("held_out", held)):
        run(work.module, inputs[name], work.config, work.inputs)
    rest = {"held_out": inputs["held_out"]}
    taggers = dict.fromkeys(texts, ("whitespace_tokenizer_v1",))
    copies = Work(module=deduplicated, config=DeduplicatedConfig(), inputs=rest)
    marked = run(copies.module, root / "deduplicated", copies.config, copies.inputs)
    rules = (Rule(name="repeats", attribute="duplicates__paragraphs", above=0.498),)
    rules = FilteredConfig(
        rules=dict.fromkeys(texts, rules), min_kept_share=dict.fromkeys(texts, 0.1)
    )
    return {
        "near_duplicates": near,
        "held_out": held,
        "deduplicated": copies,
        "decontaminated": Work(module=decontaminated, config=DecontaminatedConfig(), inputs=rest),
        "tagged": Work(module=tagged, config=TaggedConfig(taggers=taggers), inputs=rest),
        "filtered": Work(module=filtered, config=rules, inputs={**rest, "deduplicated": marked}),
    }


def words(seed: int) -> list[str]:
    noise = random.Random(seed)
    return [f"w{noise.randrange(3000)}" for _ in range(40)]


@pytest.fixture(
    scope="module",
    params=[
        "raw",
        "near_duplicates",
        "held_out",
        "deduplicated",
        "decontaminated",
        "tokens",
        "documents",
    ],
)
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A job of some tasks of every kind that it has."""
    if request.param in ("tokens", "documents"):
        filtered = request.getfixturevalue("filtered")
        if request.param == "documents":
            inputs = {"tokens": request.getfixturevalue("tokens_run"), "filtered": filtered}
            return Work(module=documents, config=DocumentsConfig(), inputs=inputs)
        inputs = {"filtered": filtered, "tokenizer": request.getfixturevalue("tokenizer_run")}
        return Work(module=tokens, config=TokensConfig(max_tokens_per_file=50_000), inputs=inputs)
    if request.param != "raw":
        return request.getfixturevalue("text_jobs")[request.param]
    texts = tmp_path_factory.mktemp("texts")
    for name in "abc":
        lines = [f'{{"id": "{name}{n % 30}", "text": "Text {name} {n}"}}\n' for n in range(40)]
        (texts / f"{name}.jsonl").write_text("".join([*lines, '{"id": 7}\n']))
    source = SourceConfig(
        name="mine",
        reader="files",
        root=str(texts),
        min_document_bytes=1,
        bad_documents="quarantine",
    )
    return Work(module=raw, config=RawConfig(sources=(source,), shard_bytes=200), inputs={})


@pytest.fixture(scope="module")
def whole(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The same job, left alone."""
    done = attempt(work, tmp_path_factory.mktemp("whole"), NEVER)
    assert done is not None
    assert done.tasks > 5
    return done


@pytest.mark.slow
@pytest.mark.parametrize("work", ["tagged", "filtered"], indirect=True)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_killed_job_that_drives_the_toolkit_goes_on_where_it_was(
    work: Work, whole: Done, tmp_path: Path, part: float
) -> None:
    goes_on(work, whole, tmp_path, part)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
def test_a_killed_job_goes_on_where_it_was(
    work: Work, whole: Done, tmp_path: Path, part: float
) -> None:
    goes_on(work, whole, tmp_path, part)


def goes_on(work: Work, whole: Done, tmp_path: Path, part: float) -> None:
    """Kill a job at a part of its moments and begin it again; compare with the one left alone."""
    assert attempt(work, tmp_path, round(part * (whole.moments - 1))) is None
    finished = len(list(tmp_path.glob("work/tasks/*/*.json")))
    again = attempt(work, tmp_path, NEVER)
    assert again is not None
    assert again.tasks == whole.tasks - finished
    assert contents(tmp_path) == contents(whole.folder)
    results = [read_json(folder / "result.json") for folder in (tmp_path, whole.folder)]
    assert results[0]["digest"] == results[1]["digest"]
    tables = [result["report"]["tables"] for result in results]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("work", ["tokens"], indirect=True)
def test_a_leader_killed_beside_its_processes_makes_the_bytes_of_one(
    work: Work, whole: Done, tmp_path: Path
) -> None:
    """Two processes do the tasks; they end with the one that is killed."""
    both = replace(work, processes=2)
    assert attempt(both, tmp_path, whole.tasks // 2) is None
    again = attempt(both, tmp_path, NEVER)
    assert again is not None
    assert contents(tmp_path) == contents(whole.folder)
