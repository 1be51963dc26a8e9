"""Lineage at size: what a step and a document take, in time and memory, over a made-up corpus.

The index is that of `benchmarks/document_index.py`; token files are holes of the right size, and
the run folder says that a run has read all of them once, in batches of `--instances`. What is timed
is what `olmo trace` asks of an open run and index; their opening is shown apart.

    python benchmarks/trace_size.py --documents 5e6 --folder /tmp/trace
    python benchmarks/trace_size.py --documents 5e6 --folder /tmp/trace --instances 512 --keep
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from benchmarks.document_index import PER_FILE, TOKENS, doc_id, report_build
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.data.order import VERSIONS
from olmo_core.files import write_json
from olmo_core.lineage.batch import documents_of_step
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.run import TrainingRun, open_run
from olmo_core.lineage.visits import steps_of_document

SEQUENCE_LENGTH = 4096


def write_tokens(folder: Path, documents: int) -> None:
    """Write token files that hold nothing, their headers, and a manifest of them all."""
    header = {
        "schema_version": 1,
        "dtype": "uint16",
        "tokens": PER_FILE * TOKENS,
        "documents": PER_FILE,
        "vocab_size": 50_000,
        "tokenizer_sha256": "0" * 64,
        "eos_token_id": 0,
    }
    ranges: list[Range] = []
    for number in range(documents // PER_FILE):
        name = f"tokens/web/part-0-{number:05d}.npy"
        path = folder / "tokens_run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(2 * PER_FILE * TOKENS)
        write_json(path.with_suffix(".json"), header)
        ranges.append(Range(path=name, start=0, stop=PER_FILE * TOKENS))
    Manifest(
        dtype="uint16",
        vocab_size=50_000,
        tokenizer_sha256="0" * 64,
        eos_token_id=0,
        root=folder / "tokens_run",
        streams=(Stream(name="web", ranges=tuple(ranges)),),
    ).write(folder / "manifest.json")


def write_run(folder: Path, instances: int, order: Any) -> Path:
    """Write what a finished run of one epoch leaves that lineage reads."""
    manifest = Manifest.read(folder / "manifest.json", root=folder / "tokens_run")
    windows = manifest.tokens // SEQUENCE_LENGTH
    steps = windows // instances
    run = folder / "runs" / f"{order}-{instances}"
    run.mkdir(parents=True, exist_ok=True)
    filtered = {"repetition_max_period": 13, "repetition_min_period": 1, "repetition_max_count": 32}
    config = {"core": {"skip_step": {"window": 128}}, "data": {"instance_filter": filtered}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with (run / "metrics.jsonl").open("w") as rows:
        for step in range(1, steps + 1):
            row = {"step": step, "train/masked_instances": 0.0, "optim/step_skipped": 0.0}
            row |= {f"figure/number {number}": 1.2345678901234 for number in range(20)}
            rows.write(json.dumps(row | {"attempt": 1}) + "\n")
    order_spec = {
        "algorithm": order,
        "version": VERSIONS[order],
        "seed": 42,
        "first_epoch": 0,
        "windows": windows,
        "sequence_length": SEQUENCE_LENGTH,
        "global_batch_size": instances,
        "manifest_sha256": manifest.sha256,
    }
    data = {"step": steps, "first_step": 0, "order": order_spec, "parent": None}
    report = {"numbers": {"ranks": 8}, "data": data}
    write_json(run / "result.json", {"schema_version": 1, "report": report})
    return run


def timed(times: list[float], ask: Callable[[], Any]) -> Any:
    """Return an answer, and add the milliseconds that it took to `times`."""
    began = time.perf_counter()
    answer = ask()
    times.append(1000 * (time.perf_counter() - began))
    return answer


def measure(folder: Path, run_folder: Path, documents: int, questions: int) -> None:
    """Print the milliseconds of random questions and the memory; each answer is checked."""
    began = time.perf_counter()
    index = BatchedDocumentIndex(folder / "index")
    run = open_run(run_folder, manifest=folder / "manifest.json", tokens=folder / "tokens_run")
    print(f"opening: {time.perf_counter() - began:.2f} s; {run.last_step:,} steps of ", end="")
    print(f"{run.batching.size} × {SEQUENCE_LENGTH} tokens, order {run.spec['algorithm']}")
    rng = np.random.default_rng(0)
    steps: list[float] = []
    known: list[float] = []
    for step in rng.integers(1, run.last_step + 1, questions).tolist():
        traced = timed(steps, lambda step=step: documents_of_step(run, index, step))
        assert len(traced.instances) == run.batching.size
        spans = [piece.document for each in traced.instances for piece in each.pieces]
        described = timed(known, lambda spans=spans: index.known(spans))
        assert [each.id for each in described] == [span.id for span in spans]
    asked: list[float] = []
    seen = 0
    for number in rng.integers(0, documents, questions).tolist():
        found = timed(asked, lambda number=number: _steps(run, index, doc_id(number)))
        seen += bool(found.visits)
        for visit in found.visits[:1]:
            traced = documents_of_step(run, index, visit.step)
            held = traced.instances[visit.instance].pieces
            assert doc_id(number) in [piece.document.id for piece in held]
    for what, taken in (
        ("step → documents", steps),
        ("all that is known of these", known),
        ("document → steps", asked),
    ):
        middle, high, most = np.quantile(taken, (0.5, 0.95, 1))
        print(f"{what}: median {middle:.1f} ms, 95% {high:.1f} ms, longest {most:.1f} ms")
    memory = psutil.Process(os.getpid()).memory_info().rss / 2**20
    print(f"{seen} of {questions} documents seen; memory {memory:,.0f} MiB", flush=True)


def _steps(run: TrainingRun, index: BatchedDocumentIndex, name: str) -> Any:
    [document] = index.of_id(name)
    return steps_of_document(run, document)


def main() -> None:
    """Build, measure, print, and remove what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=float, default=5e6)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--instances", type=int, default=512, help="of a global batch")
    parser.add_argument("--questions", type=int, default=200, help="of each kind")
    parser.add_argument("--order", choices=tuple(VERSIONS), default="feistel")
    parser.add_argument("--keep", action="store_true", help="leave it; ask what is there")
    parser.add_argument("--build", action="store_true", help="build alone, and leave it")
    arguments = parser.parse_args()
    folder, documents = arguments.folder, int(arguments.documents) // PER_FILE * PER_FILE
    try:
        if not (folder / "index").exists():
            report_build(folder / "index", documents)
            write_tokens(folder, documents)
        if not arguments.build:
            run = write_run(folder, arguments.instances, arguments.order)
            measure(folder, run, documents, arguments.questions)
    finally:
        if not (arguments.keep or arguments.build):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
