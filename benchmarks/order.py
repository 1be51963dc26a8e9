"""Opening a corpus of 5 T tokens and seeking to any step, in the order `feistel`.

examples:
  python benchmarks/order.py                     both bars, a few seconds
  python benchmarks/order.py --tokens=20e12 --files=5000
  python benchmarks/order.py --folder=/mnt/disk  where the sparse files are made

The token files are sparse: they take no space and have their full size. Three things are done, each
in fresh processes, taking turns: a mix's manifest with headers is opened and so is a list of paths,
as an official YAML has it, both to the batches of steps at the beginning, anywhere and in a later
epoch; and, for comparison, the order `olmo` (a shuffled table) over 1% of the tokens, since all of
them would take 100 times its memory. Seconds count from the command's own imports on; memory is the
process's peak, Python and numpy included. Bars: 1 s and 200 MB.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from olmo_core.data.format import Header, header_path
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.data.order import OrderName
from olmo_core.files import write_json

SECONDS_BAR, MEGABYTES_BAR = 1.0, 200.0
SEQUENCE_LENGTH, BATCH_SIZE, SEEKS = 4096, 1024, 100
SHA256 = "0" * 64
KINDS: dict[str, tuple[str, OrderName, float]] = {  # what is opened, its order, how much of it
    "manifest": ("manifest", "feistel", 1.0),
    "paths": ("paths", "feistel", 1.0),
    "olmo, 1% of it": ("paths", "olmo", 0.01),
}


def write_corpus(folder: Path, tokens: int, files: int) -> None:
    """Sparse uint32 files with headers, and a manifest of ten streams over them."""
    each = tokens // files
    names = [f"tokens/part-0-{number:05d}.npy" for number in range(files)]
    (folder / "tokens").mkdir()
    header = Header(
        dtype="uint32",
        tokens=each,
        documents=1,
        vocab_size=100_278,
        tokenizer_sha256=SHA256,
        eos_token_id=100_257,
    )
    for name in names:
        with (folder / name).open("wb") as out:
            out.truncate(each * 4)
        write_json(header_path(folder / name), header.to_dict(), durable=False)
    Manifest(
        dtype="uint32",
        vocab_size=100_278,
        tokenizer_sha256=SHA256,
        eos_token_id=100_257,
        streams=tuple(
            Stream(
                name=str(first),
                ranges=tuple(Range(path=name, start=0, stop=each) for name in names[first::10]),
            )
            for first in range(10)
        ),
    ).write(folder / "manifest.json")


def measure(kind: str, folder: Path) -> dict[str, float]:
    """Open and seek in this process: seconds to the first batch, of a seek, and peak megabytes."""
    what, order, part = KINDS[kind]
    start = time.perf_counter()
    if what == "manifest":
        manifest = Manifest.read(folder / "manifest.json", root=folder)
    else:
        paths = sorted(str(path) for path in (folder / "tokens").glob("*.npy"))
        manifest = Manifest.from_paths(paths[: int(len(paths) * part)], dtype="uint32")
    loader = Loader(
        manifest=manifest,
        sequence_length=SEQUENCE_LENGTH,
        global_batch_size=BATCH_SIZE,
        seed=6198,
        order=order,
        vocab_size=100_352,
    )
    last = loader.batching.per_epoch - 1
    loader.instances(last)
    opened = time.perf_counter() - start
    steps = np.random.default_rng(0).integers(0, last, SEEKS).tolist()
    if order == "feistel":
        steps += [0, last, 3 * last]
    start = time.perf_counter()
    for step in steps:
        loader.batch(step, rank=0, world_size=BATCH_SIZE)  # and one instance of it is read
    seek = (time.perf_counter() - start) / len(steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"opened": opened, "seek": seek, "megabytes": peak, "tokens": manifest.tokens}


def main() -> int:
    """Run all; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=float, default=5e12, help="default: 5e12")
    parser.add_argument("--files", type=int, default=1122, help="default: 1122, OLMo 2's list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what a fresh process does
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder)))
        return 0
    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="olmo-order-") as folder:
        write_corpus(Path(folder), int(options.tokens), options.files)
        command = [sys.executable, __file__, f"--folder={folder}"]
        for _ in range(options.rounds):
            for kind, rows in results.items():
                said = subprocess.check_output([*command, f"--measure={kind}"], text=True)
                rows.append(json.loads(said))
    return int(not report(results, options.files))


def report(results: dict[str, list[dict[str, float]]], files: int) -> bool:
    """Print a row a kind, and whether the bars are met."""
    rounds = len(results["manifest"])
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {np.__version__}; {files} files, sequence "
        f"{SEQUENCE_LENGTH}, batches of {BATCH_SIZE}; median of {rounds}\n"
        f"{'':<16}{'tokens':>10}{'open and seek':>16}{'a seek more':>14}{'peak memory':>14}"
    )
    medians = {
        kind: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for kind, rows in results.items()
    }
    for kind, row in medians.items():
        print(
            f"{kind:<16}{row['tokens']:>10.2g}{row['opened']:>14.3f} s{row['seek'] * 1e3:>11.2f} ms"
            f"{row['megabytes']:>11.0f} MB"
        )
    ours = [row for kind, row in medians.items() if KINDS[kind][1] == "feistel"]
    seconds, megabytes = (max(row[key] for row in ours) for key in ("opened", "megabytes"))
    shuffled = medians["olmo, 1% of it"]["opened"]
    print(f"the table of 1% of the windows takes {shuffled / seconds:.1f}× as long")
    met = seconds < SECONDS_BAR and megabytes < MEGABYTES_BAR
    bars = f"less than {SECONDS_BAR:.0f} s and {MEGABYTES_BAR:.0f} MB"
    print(f"bars: {bars}: {'met' if met else 'MISSED'}")
    return met


if __name__ == "__main__":
    sys.exit(main())
