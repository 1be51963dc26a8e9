"""What keeping each document's score costs a downstream evaluation: seconds and bytes.

examples:
  make demo && python benchmarks/task_documents.py          nine tasks, 40 documents each: 2 minutes
  python benchmarks/task_documents.py --limit 200 --root FOLDER

The demo's soup is scored on the nine core tasks of the suite olmo1, each several times in turn with
and without its documents; the figures are the sums over tasks of each side's fastest. Bounds: 5% of
the time. Bytes are those of `documents.parquet` and of the entries in the cache of scores, for one
model, beside those without documents.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from assets.paths import root
from olmo_core.config.evals import DownstreamConfig, SuiteConfig
from olmo_core.evals.rows import exported_models
from olmo_core.evals.suites import resolved, sample_seed, suite
from olmo_core.evals.task_data import build_task, write_shadows
from olmo_core.evals.task_documents import TaskDocuments, write_documents
from olmo_core.files import write_json

MOST = 0.05  # of the time without documents
SUITE = "olmo1"
BATCH_SIZE = 8  # the demo's


@contextmanager
def without_documents() -> Iterator[None]:
    """Score as before documents were kept."""
    from olmo_core.evals import harness

    plain: Any = harness.evaluate

    def evaluate(*args: Any, **options: Any) -> Any:
        found = plain(*args, **{**options, "log_samples": False})
        return {**found, "samples": {name: [] for name in found["results"]}}

    with (
        mock.patch.object(harness, "evaluate", evaluate),
        mock.patch.object(harness, "task_documents", return_value={}),
    ):
        yield


def main() -> int:
    """Print both sides; return 1 if the bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=root(), help="with the demo's results")
    parser.add_argument("--limit", type=int, default=40, help="documents of each task")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> int:
    """Score all tasks both ways; print seconds and bytes, and return 1 if it takes too long."""
    from olmo_core.evals.harness import Harness

    export = max((options.root / "demo" / "export").glob("*/result.json")).parent
    [model] = [each for each in exported_models(export) if each.model == "soup"]
    config = resolved(DownstreamConfig(suites=(SuiteConfig(name=SUITE, limit=options.limit),)))
    tasks = [task for task in config.tasks if task.name in suite(SUITE).core]
    data = [build_task(task, folder / "data") for task in tasks]
    write_shadows(data, folder / "tasks", datasets_cache=folder / "datasets")
    harness = Harness(folder / "tasks")
    language_model = harness.language_model(model.path, BATCH_SIZE)
    seconds = {True: 0.0, False: 0.0}
    kept: dict[str, TaskDocuments] = {}
    for task in tasks:
        score = functools.partial(harness.score, language_model, task)
        seed = sample_seed(task, config)
        score(sample_seed=seed)  # what is read once
        fastest = {True: float("inf"), False: float("inf")}
        for repeat in range(2 * options.repeats):
            with_documents = repeat % 2 == 0
            start = time.perf_counter()
            if with_documents:
                scored = score(sample_seed=seed)
            else:
                with without_documents():
                    plain = score(sample_seed=seed)
            took = time.perf_counter() - start
            fastest[with_documents] = min(fastest[with_documents], took)
        for side, took in fastest.items():
            seconds[side] += took
        assert scored["rows"] == plain["rows"]
        kept[task.name] = scored["documents"]
        write_json(folder / "with" / f"{task.name}.json", {"value": scored})
        write_json(folder / "without" / f"{task.name}.json", {"value": plain["rows"]})
    write_documents(folder / "documents.parquet", [(model.model, kept)])
    documents = sum(len(of["document"]) for of in kept.values())
    added = seconds[True] / seconds[False] - 1
    sizes = [sum(f.stat().st_size for f in (folder / s).iterdir()) for s in ("with", "without")]
    parquet = (folder / "documents.parquet").stat().st_size
    print(f"{len(tasks)} tasks, {documents:,} documents, one model of {model.step} steps")
    print(f"scoring: {seconds[True]:.2f} s with, {seconds[False]:.2f} s without: {added:+.1%}")
    print(f"documents.parquet: {parquet:,} bytes, {parquet / documents:.0f} a document")
    print(f"cache: {sizes[0]:,} bytes with, {sizes[1]:,} without")
    print(f"bound: {added:.1%} of {MOST:.0%}: {'holds' if added <= MOST else 'BROKEN'}")
    return int(added > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
