"""What a process holds in memory that reads a user's Parquet file with one large row group.

example:
  python benchmarks/parquet_memory.py --gb=1

  plain  texts of 5 kB, in pages of some MB
  long   texts of 4 MB side by side, half of all text, among texts of 1 kB
  pages  texts of 200 kB as pyarrow writes them by default: 1,024 of them, 200 MB, to a page

`peak` is the largest memory of the process, Python and pyarrow with it; all texts are random.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.corpus.intake.parquet import read

KINDS = ("plain", "long", "pages")


def sizes(kind: str, total: int) -> Iterator[int]:
    """Yield the sizes of the texts of a file, in bytes."""
    if kind == "long":
        yield from [1000] * (total // 4000) + [4_000_000] * (total // 8_000_000)
        yield from [1000] * (total // 4000)
    else:
        size = {"plain": 5000, "pages": 200_000}[kind]
        yield from [size] * (total // size)


def write(path: Path, kind: str, total: int) -> None:
    """Write a file of random texts, all in one row group."""
    noise = random.Random(0)
    texts = [noise.randbytes(size // 2).hex() for size in sizes(kind, total)]
    options: dict[str, Any] = {} if kind == "pages" else {"write_batch_size": 1}
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    options |= {"row_group_size": len(texts), "use_dictionary": False}
    pq.write_table(table, path, **options)  # pyright: ignore[reportUnknownMemberType]


def measure(path: Path) -> None:
    """Read a file, and print how much memory this process has held at most."""
    began = time.process_time()
    size = sum(len(row["text"]) for _, row in read(path, ("text",), ()) if isinstance(row, dict))
    took = time.process_time() - began
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    print(f"{path.stem:6}  {size / 1e9:7.2f}  {int(peak) / 1024:8.0f}  {size / 1e6 / took:6.0f}")


def main() -> None:
    """Write a file of each kind, and read it in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=1, help="of text in the row group (1)")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        measure(options.file)
        return
    print("kind    text GB  peak MiB  MB/CPU-s", flush=True)
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{kind}.parquet")
            write(path, kind, round(options.gb * 1e9))
            subprocess.run([sys.executable, __file__, f"--file={path}"], check=True)


if __name__ == "__main__":
    main()
