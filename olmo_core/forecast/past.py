"""Finished runs of this installation, as what a forecast may be measured by."""

import contextlib
import functools
import itertools
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.config.load import load
from olmo_core.config.train import TrainConfig, build_train_config
from olmo_core.energy import COUNTERS, SECONDS_PER_HOUR
from olmo_core.forecast.figures import Figure
from olmo_core.run.folder import RunFolder, read_metrics

MOST_RUNS = 24  # of an asset, the newest: earlier ones ran other code
TRAINING = "olmo_core.train"  # the module of every training run, whatever the asset is called


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A finished run: what it did, on what, and what it took."""

    folder: RunFolder
    root: Path  # that it lies in
    result: Mapping[str, Any]
    launch: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return recipe, asset and version, as a basis names the run."""
        return str(self.folder.path.relative_to(self.root))

    @property
    def module(self) -> str:
        """Return the module that ran."""
        return self.launch["parts"]["module"]

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the identity-bearing configuration."""
        return self.launch["parts"]["config"]

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Return what it reported."""
        return self.result["report"]["numbers"]

    @property
    def work_seconds(self) -> float:
        """Return the time of the work of its last attempt."""
        return self.result["work_seconds"]

    @property
    def start_seconds(self) -> float:
        """Return the time from the submission until the work began, but none in a queue."""
        waited = 0.0
        if self.launch.get("engine") != "local":
            waited = self.result["started"] - self.result["submitted"]
        return self.result["start_seconds"] - waited

    @property
    def devices(self) -> int:
        """Return the devices of its last attempt, as `Place` counts them."""
        return int(self.launch.get("place", {}).get("devices", 1))

    @property
    def nodes(self) -> int:
        """Return its nodes, workers among them."""
        run = self.launch.get("run", {})
        return int(run.get("nodes", 1)) + int(run.get("workers", 0))

    @property
    def cores(self) -> int | None:
        """Return the cores of a node that it could use; None where that was not said."""
        run = self.launch.get("run", {})
        threads = run.get("threads")
        return None if threads is None else int(threads) * int(run.get("processes_per_node", 1))

    @property
    def kind(self) -> str:
        """Return what it ran on, as `Place.kind`."""
        if self.result.get("device") != "cuda":
            return "CPU"
        return (self.launch.get("forecast") or {}).get("place", {}).get("device") or "GPU"

    @functools.cached_property
    def disk_bytes(self) -> int:
        """Return the bytes of all that lies in its folder."""
        return folder_bytes(self.folder.path)

    @functools.cached_property
    def memory_bytes(self) -> float:
        """Return the peak memory of a GPU; of a job without, of its processes."""
        return peak_memory_bytes(self.folder, self.result)

    @functools.cached_property
    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what its inputs reported; of those that are gone, nothing."""
        found: dict[str, Mapping[str, Any]] = {}
        for name, entry in self.result["inputs"].items():
            root = self.root if entry["root"] == "own" else Path(entry["root"])
            folder = RunFolder(root / entry["path"])
            if folder.finished:
                found[name] = folder.read_result()["report"]["numbers"]
        return found

    @functools.cached_property
    def train_config(self) -> TrainConfig:
        """Return the configuration of a training run, places included."""
        return build_train_config(load(self.folder.config))[0]

    @functools.cached_property
    def step_seconds(self) -> float | None:
        """Return the median time of a logged step of a training run; None without two of them.

        The time between two rows is that of as many steps as lie between them; a pause for a
        checkpoint or an evaluation is one of many, so that the median is of steps alone.
        """
        rows = [row for row in read_metrics(self.folder.metrics) if "train/masked_instances" in row]
        pairs = [
            (row["time"] - before["time"]) / (row["step"] - before["step"])
            for before, row in itertools.pairwise(rows)
            if row["attempt"] == before["attempt"] and row["step"] > before["step"]
        ]
        return statistics.median(pairs) if pairs else None

    @property
    def last_attempt_steps(self) -> int:
        """Return how many steps the last attempt of a training run logged to have done."""
        attempt = self.result["attempt"]
        steps = [
            row["step"]
            for row in read_metrics(self.folder.metrics)
            if row.get("attempt") == attempt and "step" in row
        ]
        interval = self.train_config.console_log_interval
        return max(steps) - min(steps) + interval if steps else 0

    @property
    def watts(self) -> Figure | None:
        """Return the mean power of a device that counters saw; None where none did."""
        kwh = self.numbers.get("energy_kwh")
        if kwh is None or self.result["report"]["data"].get("energy_source") not in COUNTERS:
            return None
        watts = 1000 * kwh / (self.work_seconds * self.devices / SECONDS_PER_HOUR)
        return Figure(value=watts, basis=f"measured: {watts:.0f} W per device in {self.name}")


def find_runs(roots: Sequence[Path], assets: Sequence[str]) -> list[PastRun]:
    """Return the newest finished runs of these assets (or patterns of them), whichever recipe's.

    A run of another schema, or of before results named their device, is left out.
    """
    found: list[PastRun] = []
    for root in roots:
        for asset in assets:
            for path in root.glob(f"[!.]*/{asset}/*/result.json"):
                folder = RunFolder(path.parent)
                with contextlib.suppress(ValueError):
                    launch = folder.read(folder.launch)
                    if launch and "parts" in launch and folder.finished:
                        result = folder.read_result()
                        found.append(
                            PastRun(folder=folder, root=root, result=result, launch=launch)
                        )
    usable = [run for run in found if "finished" in run.result and "device" in run.result]
    return sorted(usable, key=lambda run: run.result["finished"], reverse=True)[:MOST_RUNS]


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; what is deleted meanwhile counts as none."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


def peak_memory_bytes(folder: RunFolder, result: Mapping[str, Any]) -> float:
    """Return the peak memory of a run's GPU, as it logged it; without one, of its processes."""
    peaks = [
        row["System/Peak GPU Memory (MB)"] * 1e6
        for row in read_metrics(folder.metrics)
        if "System/Peak GPU Memory (MB)" in row
    ]
    return max(peaks, default=float(result["peak_memory_bytes"]))
