"""What the passes that look at all documents at once hold in memory, on synthetic keys.

examples:
  python benchmarks/corpus_memory.py                    2 GB of keys per pass, by two processes
  python benchmarks/corpus_memory.py --gb=20 --only=copies

The keys are written as the pass's own maps write them, for the groups and partitions that the job
would choose for a corpus of that size; then the pass's own reduce is run.

  pairs    near_duplicates: bands of MinHash values, 500 bytes per document
  verify   near_duplicates: runs of words of the documents that are compared, 960 bytes per document
  connect  near_duplicates: links between near copies, 16 bytes per link, in one process
  copies   deduplicated: digests of texts and paragraphs, 550 bytes per document
  choose   held_out: narrow rows of all documents and their clusters, in one process

Three documents of ten repeat others, and one of a thousand shares a bucket with all of its kind.
The index has no such pass: a count of documents bounds each of its partitions. `peak` is the
largest memory of any process that reduces, `disk` the most that keys and what spills took together.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from synthetic_keys import (
    BANDS,
    PARAGRAPHS,
    RUNS,
    SHARD_DOCUMENTS,
    Plan,
    planned,
    write_bands,
    write_digests,
    write_links,
    write_sets,
    write_survey,
)

from olmo_core.corpus.duplicates import bands, candidates, components, copies, keys, verify
from olmo_core.corpus.duplicates.held_out import HeldOutConfig, choose
from olmo_core.tasks.map import process_pool


def pair(plan: Plan, number: int) -> dict[str, Any]:
    """Reduce one partition of bands."""
    files, out = [plan.file(group) for group in plan.groups], plan.folder / f"pairs-{number:05d}"
    found = bands.pair_partition(files, number, plan.partitions, plan.groups, out)
    shutil.rmtree(out)
    return found


def compare(plan: Plan, number: int) -> dict[str, Any]:
    """Reduce one partition of digests."""
    files, out = [plan.file(group) for group in plan.groups], plan.folder / f"again-{number:05d}"
    copies.compare_partition(files, number, plan.partitions, plan.groups, out)
    size = out.stat().st_size
    out.unlink()
    return {"megabytes": size // 10**6}


def verify_pairs(plan: Plan, number: int) -> dict[str, Any]:
    """Compare the pairs whose first document lies in one group."""
    folders = [plan.file(group) for group in plan.groups]
    out = plan.folder / f"links-{number:05d}"
    found = verify.verify_group(folders, folders, plan.groups[number], plan.groups, 0.7, out)
    out.unlink()
    return found


def connect(plan: Plan, number: int) -> dict[str, Any]:
    """Connect all links."""
    files = [plan.file(group) for group in plan.groups]
    found = components.connect(files, 1 << 12, plan.folder / "clusters.parquet")
    return {"clusters": sum(found["sizes"].values()), "documents": sum(found["members"])}


def hold_out(plan: Plan, number: int) -> dict[str, Any]:
    """Choose what is held out of all documents."""
    surveys = [plan.file(group) for group in plan.groups]
    clusters = plan.folder / "clusters.parquet"
    with keys.table_file(clusters, components.CLUSTERS) as add:
        for batch in keys.read_partition([each.with_suffix(".clusters") for each in surveys], 0, 1):
            add({name: batch.column(name).to_numpy() for name in components.CLUSTERS})
    with candidates.Survey(surveys, clusters, plan.folder) as survey:
        sizes = {source: row["documents"] for source, row in survey.sources().items()}
        held = choose(survey, sizes, HeldOutConfig())
        held += survey.near_excluded(0)
    return {"held_out": len(held)}


@dataclass(frozen=True, kw_only=True)
class Pass:
    """How the keys of a pass are written and reduced."""

    document_bytes: int  # of keys
    disk: float  # bytes per byte of keys, with what spills
    write: Callable[[Plan, keys.Group], None]
    reduce: Callable[[Plan, int], dict[str, Any]]
    parts: Callable[[Plan], int] = lambda plan: plan.partitions  # each reduced by one process


PASSES = {
    "pairs": Pass(document_bytes=25 * BANDS, disk=1.5, write=write_bands, reduce=pair),
    "verify": Pass(
        document_bytes=8 * RUNS * 3 // 10,
        disk=1.5,
        write=write_sets,
        reduce=verify_pairs,
        parts=lambda plan: len(plan.groups),
    ),
    "connect": Pass(
        document_bytes=32, disk=8.0, write=write_links, reduce=connect, parts=lambda _: 1
    ),
    "copies": Pass(
        document_bytes=29 * (1 + PARAGRAPHS), disk=1.5, write=write_digests, reduce=compare
    ),
    "choose": Pass(
        document_bytes=40, disk=3.0, write=write_survey, reduce=hold_out, parts=lambda _: 1
    ),
}


def timed(call: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Do something, and say how much memory this process has held at most."""
    facts = call() or {}
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return {"peak": int(peak) / 1024, **facts}


def run_pass(how: Pass, plan: Plan, processes: int) -> dict[str, Any]:
    """Write the keys, then reduce them, each in processes of its own."""
    with process_pool(processes) as pool:
        began = time.perf_counter()
        deque(pool.map(partial(how.write, plan), plan.groups), maxlen=0)
        wrote = time.perf_counter() - began
    size = sum(path.stat().st_size for path in plan.folder.rglob("*"))
    partitions = how.parts(plan)
    with process_pool(processes) as pool, most_used(plan.folder) as disk:
        began = time.perf_counter()
        found = [*pool.map(timed, [partial(how.reduce, plan, n) for n in range(partitions)])]
        took = time.perf_counter() - began
    facts = {name: sum(each[name] for each in found) for name in found[0] if name != "peak"}
    return {
        "gb": size / 1e9,
        "partitions": partitions,
        "write": wrote,
        "reduce": took,
        "peak": max(each["peak"] for each in found),
        "disk": size / 1e9 + disk[0],
        "facts": facts,
    }


@contextlib.contextmanager
def most_used(folder: Path) -> Iterator[list[float]]:
    """Yield the most GB that the file system's use has grown by, looked at every second."""
    before = shutil.disk_usage(folder).used
    most, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            most[0] = max(most[0], (shutil.disk_usage(folder).used - before) / 1e9)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def main() -> None:
    """Run the passes in turn, and remove the keys of each before the next."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=2, help="of keys per pass (2)")
    parser.add_argument("--only", default=",".join(PASSES), help="passes, with commas (all)")
    parser.add_argument("--processes", type=int, default=2, help="(2)")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    options = parser.parse_args()
    chosen = {name: PASSES[name] for name in options.only.split(",")}
    free = shutil.disk_usage(options.folder or tempfile.gettempdir()).free / 1e9
    need = max(how.disk for how in chosen.values()) * options.gb
    print(f"needs about {need:.0f} GB of disk, {free:.0f} GB are free", flush=True)
    if need > free:
        sys.exit("not enough: name a --folder elsewhere, or fewer --gb")
    print("pass       keys GB  documents  partitions  write s  reduce s  peak MiB  disk GB")
    for name, how in chosen.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            count = round(options.gb * 1e9 / how.document_bytes / SHARD_DOCUMENTS) or 1
            seen = run_pass(how, planned(Path(scratch), count), options.processes)
            print(
                f"{name:8}  {seen['gb']:8.1f}  {count * SHARD_DOCUMENTS:9}  "
                f"{seen['partitions']:10}  {seen['write']:7.0f}  {seen['reduce']:8.0f}  "
                f"{seen['peak']:8.0f}  {seen['disk']:7.1f}  {seen['facts']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
