"""Is a forecast right? What `olmo cost demo` says after one run, beside three further runs.

examples:
  python benchmarks/cost.py FOLDER                 all of it, on a quiet machine: 13 minutes
  python benchmarks/cost.py FOLDER --part first    in parts of four minutes: this one, then
  python benchmarks/cost.py FOLDER --part repeat   this one three times; each prints the table

The first run is in an empty root, so that every forecast of it is by assumption; after it each is
by that run. `olmo cost demo --force` is kept then, and compared with the medians of `olmo run demo
--force`, job by job. Scores that are kept (`cache/evals`) are deleted before each run, since a run
on equal weights would only read them. Bounds: time within 20%, disk and memory within 10%, of each
job that takes a second or more (of shorter ones the start of a process is all that is measured) and
of all together. `least to most`: the later runs by their own median, which no forecast can foresee.
How busy the machine was is printed with each run: a forecast by a quiet run of a busy one is wrong,
and the other way round.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.files import read_json, write_json
from olmo_core.forecast.measured import measured
from olmo_core.run.folder import RunFolder

REPEATS = 3
FARTHEST = {"seconds": 0.20, "disk_bytes": 0.10, "memory_bytes": 0.10}
SHORT_SECONDS = 1.0
OLMO = [sys.executable, "-m", "pipelines.cli.main"]


def main() -> int:
    """Run what is asked for, print the table, and return 1 where a bound is exceeded."""
    parser = argparse.ArgumentParser(description="Compare forecasts with runs.")
    parser.add_argument("folder", type=Path, help="root of the results; new for the first run")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--part", choices=("first", "repeat", "table"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    environment = {**os.environ, "OLMO_ROOT": str(folder), "OLMO_SHARED_ROOTS": ""}
    if arguments.part in (None, "first"):
        first(folder, arguments.recipe, environment)
    repeats = {None: REPEATS, "repeat": 1}.get(arguments.part, 0)
    for _ in range(repeats):
        run(arguments.recipe, environment)
    return table(folder, arguments.recipe) if arguments.part != "first" else 0


def first(folder: Path, recipe: str, environment: Mapping[str, str]) -> None:
    """Make the recipe once, and keep what a second run is forecast to take."""
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder}: not empty; the first run is to be the first")
    run(recipe, environment)
    command = [*OLMO, "cost", recipe, "--force", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    write_json(folder / "forecast.json", {"time": time.time(), **json.loads(done.stdout)})


def run(recipe: str, environment: Mapping[str, str]) -> None:
    """Make the whole recipe, again if it is there, and say how busy the machine was before."""
    shutil.rmtree(Path(environment["OLMO_ROOT"]) / "cache" / "evals", ignore_errors=True)
    load, began = os.getloadavg()[0], time.monotonic()
    subprocess.run([*OLMO, "run", recipe, "--force"], env=environment, check=True)
    seconds = time.monotonic() - began
    print(f"made in {seconds:.0f} s; load before it {load:.2f}", flush=True)


def table(folder: Path, recipe: str) -> int:
    """Print forecast by median of the later runs, job by job; return 1 where one is too far off."""
    known = read_json(folder / "forecast.json")
    sums = {name: [0.0, 0.0] for name in FARTHEST}
    far: list[str] = []
    titles = "".join(f" {name:>13}" for name in FARTHEST)
    print(f"{'job':20} {'runs':>4} {'seconds':>9} {'least to most':>15}{titles}")
    for entry in known["assets"]:
        asset = entry["asset"]
        runs = later_runs(folder / recipe / asset, known["time"])
        if not runs:
            raise SystemExit(f"{asset}: no run after the forecast; --part repeat")
        found = {name: statistics.median(each[name] for each in runs) for name in FARTHEST}
        ratios: dict[str, float] = {}
        for name, value in found.items():
            forecast = entry["figures"][name]["value"]
            ratios[name] = forecast / value
            sums[name] = [sums[name][0] + forecast, sums[name][1] + value]
        if found["seconds"] >= SHORT_SECONDS:
            far += too_far(asset, ratios)
        print(line(asset, [each["seconds"] for each in runs], ratios))
    whole = {name: forecast / value for name, (forecast, value) in sums.items()}
    far += too_far("all", whole)
    print(line("all", [sums["seconds"][1]], whole))
    for each in far:
        print(f"too far off: {each}")
    return 1 if far else 0


def later_runs(asset: Path, since: float) -> list[dict[str, float]]:
    """Return what each run of an asset that ended after a time has taken."""
    folders = [RunFolder(path.parent) for path in sorted(asset.glob("*/result.json"))]
    later = [each for each in folders if each.read_result()["finished"] > since]
    return [measured(each) for each in later]


def too_far(asset: str, ratios: Mapping[str, float]) -> Sequence[str]:
    """Return which figures are further from what was measured than their bound."""
    return [
        f"{asset}: {name}: {ratio:.2f} of what was measured, bound {FARTHEST[name]:.0%}"
        for name, ratio in ratios.items()
        if abs(ratio - 1) > FARTHEST[name]
    ]


def line(asset: str, seconds: Sequence[float], ratios: Mapping[str, Any]) -> str:
    """Return a row: how long each run took, and forecast by measured."""
    cells = "".join(f" {ratios[name]:13.2f}" for name in FARTHEST)
    middle, several = statistics.median(seconds), len(seconds) > 1
    apart = f"{min(seconds) / middle:.2f} to {max(seconds) / middle:.2f}" if several else ""
    return f"{asset:20} {len(seconds) if several else '':>4} {middle:9.1f} {apart:>15}{cells}"


if __name__ == "__main__":
    sys.exit(main())
