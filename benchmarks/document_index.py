"""The documents index at size: how fast it is built, how large it is, how long a look-up takes.

Token files' rows and what is known of texts are made up; from there on the asset's own functions
build the index: collecting in two processes, each timed by itself, then writing in one, whose peak
memory is shown. Reading documents is not part of it (`read_documents`).

    python benchmarks/document_index.py --documents 50e6 --folder /tmp/index
    python benchmarks/document_index.py --documents 50e6 --folder /tmp/index --keep
"""

import argparse
import hashlib
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.corpus.index.collect import digest_places, write_digests, write_partitioned
from olmo_core.corpus.index.documents import PARTITION_DOCUMENTS
from olmo_core.corpus.index.partition import write_dropped, write_ids, write_keys
from olmo_core.data import document_index as index
from olmo_core.tasks.map import process_pool

PARTITIONED = (index.IDS, index.URLS, index.TEXTS, index.DROPPED)
PER_FILE = 1_000_000  # documents; a token file of 1 G tokens has about as many
TOKENS = 1000  # of a document
LEFT_OUT = 10  # of as many documents in token files, another is in none
BYTES_PER_DOCUMENT = 200  # on disk while it is built, half of it to stay


def doc_id(number: int) -> str:
    """Return the id of a document."""
    return f"web/part-{number // 20_000:05d}/{number:012d}"


def url(number: int) -> str:
    """Return its URL, which two documents share."""
    return f"https://www.example.org/{number // 2:x}/page.html"


def sha1(number: int) -> bytes:
    """Return the SHA-1 of its text."""
    content = number.to_bytes(8, "big", signed=True)
    return hashlib.sha1(content, usedforsecurity=False).digest()


def left_out(first: int) -> list[dict[str, Any]]:
    """Return the rows of documents that a rule drops, for those of a token file."""
    return [
        {
            "id": f"{doc_id(number)}-left-out",
            "source": "web",
            "asset": "filtered",
            "reason": f"rule_{number % 7}",
            "src": f"documents/web/part-{number // 20_000:05d}.jsonl.gz",
            "loc": number % 20_000 + 1,
            "url": f"{url(number)}?left-out",
            "characters": number % 9973,
            "text_bytes": number % 9973,
            "sha1": sha1(-number - 1).hex(),
        }
        for number in range(first, first + PER_FILE, LEFT_OUT)
    ]


def collect(folder: Path, partitions: int, first: int) -> float:
    """Write the places of one token file, and what is known of as many texts.

    Returns:
        The seconds that it takes, without making the rows up.
    """
    numbers = range(first, first + PER_FILE)
    ids = [doc_id(number) for number in numbers]
    order = np.random.default_rng(first).permutation(PER_FILE)
    starts = np.arange(PER_FILE) * TOKENS
    file = f"tokens/web/part-0-{first // PER_FILE:05d}.npy"
    places = pa.table(
        {
            "start": starts,
            "end": starts + TOKENS,
            "id": pa.array(ids).take(order),
            "src": pa.array(
                [f"documents/web/part-{n // 20_000:05d}.jsonl.gz" for n in numbers]
            ).take(order),
            "loc": np.arange(PER_FILE)[order] % 20_000 + 1,
        },
        index.PLACE_SCHEMA,
    )
    keys = [index.key_of(name) for name in ids]
    texts = pa.table(
        {
            "key": pa.array(keys, pa.uint64()),
            "id": ids,
            "url": [url(number) for number in numbers],
            "characters": np.arange(first, first + PER_FILE) % 9973,
            "text_bytes": np.arange(first, first + PER_FILE) % 9973,
            "sha1": pa.array([sha1(number) for number in numbers], pa.binary(20)),
        }
    )
    of_urls = [index.key_of(name) for name in texts["url"].to_pylist()]
    of_texts = [index.key_of_sha1(digest) for digest in texts["sha1"].to_pylist()]
    dropped = left_out(first)
    began = time.monotonic()
    path = index.places_path(folder / index.PLACES, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    index.write_sorted(path, places, by="start", row_group=index.ROW_GROUP)
    work, name = folder / "work", f"{first // PER_FILE:05d}"
    digest_places(path, file, partitions, work / "places" / f"{name}.arrow")
    (work / "texts" / name).mkdir()
    write_partitioned(work / "texts" / name / "ids.arrow", texts, partitions)
    for kind, digests in (("urls", of_urls), ("texts", of_texts)):
        table = pa.table({"key": digests, "id_key": keys}, index.KEY_SCHEMA)
        write_partitioned(work / "texts" / name / f"{kind}.arrow", table, partitions)
    write_digests(dropped, index.DROPPED_SCHEMA, partitions, work / "dropped" / name)
    return time.monotonic() - began


def build(folder: Path, documents: int) -> dict[str, float]:
    """Build an index; return the seconds of its steps."""
    partitions = 1 << (documents // PARTITION_DOCUMENTS).bit_length()
    places, texts, dropped = (folder / "work" / name for name in ("places", "texts", "dropped"))
    for path in (places, texts, dropped, *(folder / kind for kind in PARTITIONED)):
        path.mkdir(parents=True)
    with process_pool(2) as pool:
        collected = sum(
            pool.map(partial(collect, folder, partitions), range(0, documents, PER_FILE))
        )
    began, count = time.monotonic(), 0
    for number in range(partitions):
        out = f"part-{number:05d}.parquet"
        made = write_ids(places, texts, number, frozenset(), folder / index.IDS / out)
        count += made["documents"]
        write_dropped(dropped, number, folder / index.DROPPED / out)
        for kind in (index.URLS, index.TEXTS):
            write_keys((texts, dropped), kind, number, folder / kind / out)
    written = time.monotonic() - began
    assert count == documents, count
    shutil.rmtree(folder / "work")
    return {"collect": collected, "write": written}


def look_up(folder: Path, documents: int) -> dict[str, np.ndarray]:
    """Return the milliseconds of look-ups of random documents, by kind; each answer is checked."""
    numbers = np.random.default_rng(0).integers(0, documents, 200).tolist()
    kinds = ("id", "URL", "SHA-1", "position", "left out")
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    documents_index = index.DocumentIndex(folder)

    def timed(kind: str, ask: Callable[[], Any]) -> Any:
        began = time.monotonic()
        answer = ask()
        times[kind].append(1000 * (time.monotonic() - began))
        return answer

    for number in numbers:
        name = doc_id(number)
        (found,) = timed("id", lambda name=name: documents_index.of_id(name))
        same = timed("URL", lambda n=number: documents_index.of_url(url(n)))
        assert [row.id for row in same] == [doc_id(number // 2 * 2 + n) for n in (0, 1)]
        (row,) = timed("SHA-1", lambda n=number: documents_index.of_sha1(sha1(n)))
        assert (row.id, row.start) == (name, found.start)
        place = timed("position", lambda f=found: documents_index.at(f.file, f.start + TOKENS // 2))
        assert place.id == name
        other = f"{doc_id(number // LEFT_OUT * LEFT_OUT)}-left-out"
        (row,) = timed("left out", lambda name=other: documents_index.dropped_of_id(name))
        assert (row.id, row.asset) == (other, "filtered")
    return {kind: np.array(taken) for kind, taken in times.items()}


def report_build(folder: Path, documents: int) -> None:
    """Build an index, and print how long it took and how large it is."""
    need = documents * BYTES_PER_DOCUMENT
    print(f"needs {need / 1e9:.1f} GB in {folder} while it builds", flush=True)
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if free < 2 * need:
        raise SystemExit(f"{free / 1e9:.1f} GB are free; expected twice the need")
    for step, taken in build(folder, documents).items():
        print(f"{step}: {taken:.0f} s, {documents / taken:,.0f} documents a second")
    for kind in (index.PLACES, *PARTITIONED):
        paths = [path for path in (folder / kind).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in paths)
        print(f"{kind}: {len(paths)} files, {size / documents:.1f} bytes a document")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{documents:,} documents; peak memory of writing {peak:,.0f} MiB", flush=True)


def main() -> None:
    """Build, measure, print, and remove what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=float, default=10e6)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="leave it; look up in what is there")
    arguments = parser.parse_args()
    documents = int(arguments.documents) // PER_FILE * PER_FILE
    try:
        if not (arguments.keep and arguments.folder.exists()):
            report_build(arguments.folder, documents)
        for kind, taken in look_up(arguments.folder, documents).items():
            middle, high, most = np.quantile(taken, (0.5, 0.95, 1))
            print(f"{kind}: median {middle:.1f} ms, 95% {high:.1f} ms, longest {most:.1f} ms")
    finally:
        if not arguments.keep:
            shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
