"""A step's documents at size: from row groups of the documents index, and from its blocks.

Places of made-up documents alone, of log-normal lengths, 1,000 tokens on average: what is known by
ids, URLs and SHA-1s is no part of this look-up (`benchmarks/document_index.py` has it). Each batch
is asked of both, one after the other, on one core; the answers must be equal.

    python benchmarks/document_places.py --documents 50e6 --folder /tmp/places
    python benchmarks/document_places.py --documents 50e6 --folder /tmp/places --keep
"""

import argparse
import importlib
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.document_index import PER_FILE, TOKENS
from olmo_core.data import document_index as index
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.place_blocks import MARKER, build_blocks
from olmo_core.tasks.map import process_pool

pc: Any = importlib.import_module("pyarrow.compute")  # it has no types

WINDOW = 4096  # tokens
PER_SHARD = 20_000  # documents of a document file
EMPTY = {
    index.IDS: index.ROW_SCHEMA,
    index.URLS: index.KEY_SCHEMA,
    index.TEXTS: index.KEY_SCHEMA,
    index.DROPPED: index.DROPPED_SCHEMA,
}


def token_file(number: int) -> str:
    """Return the name of a token file."""
    return f"tokens/web/part-0-{number:05d}.npy"


def numbered(before: str, numbers: np.ndarray, digits: int, after: str) -> Any:
    """Return names with a number in them, as an Arrow array."""
    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(before, padded, after, "")


def write_places(folder: Path, number: int) -> None:
    """Write the places of one token file, whose documents stand in random order."""
    rng = np.random.default_rng(number)
    numbers = rng.permutation(PER_FILE) + number * PER_FILE
    lengths = rng.lognormal(np.log(TOKENS) - 0.5, 1.0, PER_FILE).astype(np.int64) + 1
    ends = np.cumsum(lengths)
    shards = numbered("web/part-", numbers // PER_SHARD, 5, "/")
    places = pa.table(
        {
            "start": ends - lengths,
            "end": ends,
            "id": pc.binary_join_element_wise(shards, numbered("", numbers, 12, ""), ""),
            "src": numbered("documents/web/part-", numbers // PER_SHARD, 5, ".jsonl.gz"),
            "loc": numbers % PER_SHARD + 1,
        },
        index.PLACE_SCHEMA,
    )
    path = index.places_path(folder / index.PLACES, token_file(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    index.write_sorted(path, places, by="start", row_group=index.ROW_GROUP)


def build(folder: Path, documents: int) -> None:
    """Write places, and blocks of them; print how long it takes and how large they are."""
    for kind, schema in EMPTY.items():
        (folder / kind).mkdir(parents=True)
        nothing = pa.Table.from_pylist([], schema)
        index.write_sorted(folder / kind / "part-00000.parquet", nothing, by="key", row_group=1)
    began = time.monotonic()
    with process_pool(2) as pool:
        list(pool.map(partial(write_places, folder), range(documents // PER_FILE)))
    placed = time.monotonic()
    built = build_blocks(
        folder, folder / "blocks", digest="made up", processes=2, progress=lambda done, total: None
    )
    size = sum(path.stat().st_size for path in (folder / index.PLACES).rglob("*.parquet"))
    print(f"places: {placed - began:.0f} s, {size / documents:.1f} bytes a document")
    print(
        f"blocks: {time.monotonic() - placed:.0f} s, {built.size_bytes / documents:.1f} bytes a "
        "document, in 2 processes",
        flush=True,
    )


def measure(folder: Path, documents: int, instances: int, questions: int) -> None:
    """Print what random batches take of each, and the memory."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    process = psutil.Process(os.getpid())
    rng = np.random.default_rng(0)
    opened = {"row groups": None, "blocks": folder / "blocks"}
    indexes = {name: BatchedDocumentIndex(folder, blocks) for name, blocks in opened.items()}
    for first in (True, False):
        times: dict[str, list[float]] = {name: [] for name in indexes}
        for _ in range(1 if first else questions):
            batch = random_batch(rng, documents, instances)
            answers: list[Any] = []
            for name, opened_index in indexes.items():
                began = time.process_time()
                answers.append(opened_index.between_each(batch))
                times[name].append(1000 * (time.process_time() - began))
            assert answers[0] == answers[1]
        for name, taken in times.items():
            said = "the first batch" if first else f"{questions} batches of {instances}"
            middle, most = np.quantile(taken, (0.5, 1))
            print(f"{name}, {said}: median {middle:.0f} ms of one core, longest {most:.0f} ms")
    print(f"memory {process.memory_info().rss / 2**20:,.0f} MiB", flush=True)


def random_batch(
    rng: np.random.Generator, documents: int, instances: int
) -> Sequence[tuple[str, int, int]]:
    """Return the windows of a batch, anywhere in the corpus."""
    files = rng.integers(0, documents // PER_FILE, instances).tolist()
    windows = rng.integers(0, PER_FILE * TOKENS // WINDOW * 9 // 10, instances).tolist()
    return [
        (token_file(file), window * WINDOW, (window + 1) * WINDOW)
        for file, window in zip(files, windows, strict=True)
    ]


def main() -> None:
    """Build, measure, print, and remove what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=float, default=5e6)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--instances", type=int, default=512, help="of a global batch")
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--keep", action="store_true", help="leave it; ask what is there")
    arguments = parser.parse_args()
    folder, documents = arguments.folder, int(arguments.documents) // PER_FILE * PER_FILE
    try:
        if not (folder / "blocks" / MARKER).exists():
            build(folder, documents)
        measure(folder, documents, arguments.instances, arguments.questions)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
