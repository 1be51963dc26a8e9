"""A step of a training the size of OLMo 2 7B's stage 1, traced from its YAML alone.

examples:
  python benchmarks/trace_official.py                 1,122 files, 3.9e12 tokens: 4 GB of memory
  python benchmarks/trace_official.py --tokens 4e10

The token files are sparse: they take no space and have their full size. Printed are the seconds to
look at all sizes, to find the windows of a step (all windows are shuffled, as OLMo did) and those
of a second step, and to count what a checkpoint in the middle has read; and the peak of memory.
Rows of documents are not read: the files have none.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from olmo_core.lineage.official import open_official

ID_BYTES = 4
RECIPES = Path(__file__).resolve().parents[1] / "pipelines" / "recipes"


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=float, default=3.895e12, help="in all files")
    parser.add_argument("--files", type=int, default=1122)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths: list[str] = []
        for number in range(options.files):
            path = Path(folder) / f"part-{number:05d}.npy"
            path.touch()
            os.truncate(path, int(options.tokens) // options.files * ID_BYTES)
            paths.append(str(path))
        official = Path(folder) / "official.yaml"
        official.write_text(yaml.safe_dump(content(paths)))
        print(json.dumps(measure(official), indent=1))


def content(paths: list[str]) -> dict[str, Any]:
    """Return the recipe's YAML of stage 1 over these files, in OLMo's order, for one epoch."""
    values = yaml.safe_load((RECIPES / "olmo2_7b" / "stage1.yaml").read_text(encoding="utf-8"))
    values["data"] |= {"paths": paths, "memmap_dtype": "uint32"}
    return values | {"core": {"order": "olmo"}, "max_duration": "1ep"}


def measure(official: Path) -> dict[str, float]:
    """Return seconds per question, and the peak of memory in GB."""
    found: dict[str, float] = {}
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        found[name] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()

    run = open_official(official)
    lap("sizes_seconds")
    run.batch(1000)
    lap("first_step_seconds")
    run.batch(run.batching.per_epoch)
    lap("second_step_seconds")
    run.read_up_to(run.batching.per_epoch // 2)
    lap("half_an_epoch_seconds")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "windows": run.batching.instances, "peak_gb": round(peak / 1e6, 2)}


if __name__ == "__main__":
    main()
