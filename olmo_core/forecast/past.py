"""Finished runs of this installation, as what a forecast may be measured by."""

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.config.load import load
from olmo_core.config.model import count_parameters
from olmo_core.config.train import TrainConfig, build_train_config
from olmo_core.energy import COUNTERS, SECONDS_PER_HOUR
from olmo_core.errors import ConfigError
from olmo_core.files import read_end
from olmo_core.forecast.figures import Figure
from olmo_core.forecast.loads import OF_CHECKPOINTS, work_module
from olmo_core.monitor.devices import product_name
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder

MOST_RUNS = 24  # of an asset, the newest: earlier ones ran other code
READ_BYTES = 2 << 20  # of metrics.jsonl, from either end
FAR = 1000  # steps: further apart are only rows between which some were not read


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
        """Return the module that ran; of a checkpoint's evaluation that of exported models."""
        return work_module(self.result["asset"], self.launch["parts"]["module"])

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the identity-bearing configuration."""
        return self.launch["parts"]["config"]

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Return what it reported."""
        return self.result["report"]["numbers"]

    @property
    def scores_from_cache(self) -> bool:
        """Return whether an evaluation found scores of equal weights, and did not compute them."""
        return bool(self.numbers.get("scores_from_cache"))

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
        stated = (self.launch.get("forecast") or {}).get("place", {}).get("device") or ""
        return product_name(stated) or "GPU"

    @functools.cached_property
    def disk_bytes(self) -> int:
        """Return the bytes of what its folder holds."""
        return folder_bytes(self.folder, self.result)

    @property
    def output_bytes(self) -> int:
        """Return the bytes of its outputs alone, without records."""
        return sum(entry["bytes"] for entry in self.result["files"].values())

    @functools.cached_property
    def memory_bytes(self) -> float:
        """Return the peak memory of a GPU; of a job without, of its processes."""
        return peak_memory_bytes(self.folder, self.result)

    @functools.cached_property
    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what its inputs reported; of those that are gone, nothing."""
        return {
            name: numbers
            for name, folder in _inputs(self.result, self.root).items()
            if (numbers := reported(name, folder)) is not None
        }

    @functools.cached_property
    def exported(self) -> frozenset[Path]:
        """Return the runs whose models an evaluation has scored, as `export` has them."""
        entry = self.result["inputs"].get("export")
        if entry is None:
            return frozenset()
        root = _root(entry, self.root)
        export = RunFolder(root / entry["path"])
        return frozenset(_inputs(export.read_result(), root).values() if export.finished else ())

    @functools.cached_property
    def train_config(self) -> TrainConfig:
        """Return the configuration of a training run, places included."""
        return build_train_config(load(self.folder.config))[0]

    @functools.cached_property
    def step_seconds(self) -> float | None:
        """Return the mean time per step of a training run; None without two logged ones.

        What pauses a run between steps, checkpoints and evaluations, is part of it; what comes
        before the first logged step, as starting and compiling, is not.
        """
        pairs = [
            (row["time"] - before["time"], row["step"] - before["step"])
            for before, row in itertools.pairwise(_some_rows(self.folder))
            if row["attempt"] == before["attempt"] and 0 < row["step"] - before["step"] < FAR
        ]
        steps = sum(count for _, count in pairs)
        return sum(seconds for seconds, _ in pairs) / steps if steps else None

    @property
    def last_attempt_steps(self) -> int:
        """Return how many steps the last attempt of a training run did."""
        before = attempts.ended(self.folder).get(self.result["attempt"] - 1, {})
        begun = before.get("checkpoint_step") or self.result["report"]["data"]["first_step"]
        return self.numbers["steps"] - begun

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

    def versions(asset: str) -> str:
        return "*/*" if asset in OF_CHECKPOINTS else "*"  # below their partitions

    paths = [
        (path.stat().st_mtime, root, path)
        for root in roots
        for asset in assets
        for path in root.glob(f"[!.]*/{asset}/{versions(asset)}/result.json")
    ]
    found: list[PastRun] = []
    for _, root, path in sorted(paths, reverse=True)[:MOST_RUNS]:
        folder = RunFolder(path.parent)
        with contextlib.suppress(ValueError):
            launch = folder.read(folder.launch)
            if launch and "parts" in launch and folder.finished:
                result = folder.read_result()
                found.append(PastRun(folder=folder, root=root, result=result, launch=launch))
    return [run for run in found if "device" in run.result]


def _inputs(result: Mapping[str, Any], root: Path) -> dict[str, Path]:
    """Return the folders that a run below a root has read, by the inputs' names."""
    return {name: _root(each, root) / each["path"] for name, each in result["inputs"].items()}


def _root(entry: Mapping[str, Any], own: Path) -> Path:
    return own if entry["root"] == "own" else Path(entry["root"])


def reported(name: str, folder: Path) -> Mapping[str, Any] | None:
    """Return what an input has reported; None where it is gone. A checkpoint has its parameters."""
    if name == "checkpoint":
        return _of_run(folder.parents[1])
    run = RunFolder(folder)
    return run.read_result()["report"]["numbers"] if run.finished else None


@functools.lru_cache(maxsize=512)
def _of_run(run: Path) -> Mapping[str, Any] | None:
    """Return the numbers of a run's checkpoints; None where its configuration cannot be read."""
    try:
        config, _ = build_train_config(load(run / "config.yaml"))
    except (ConfigError, FileNotFoundError):  # of another version of the code, or gone
        return None
    return {"parameters": count_parameters(config.model).total}


def folder_bytes(folder: RunFolder, result: Mapping[str, Any]) -> int:
    """Return the bytes of what a finished run's folder holds: outputs, records, checkpoints.

    A run may have hundreds of checkpoints of thousands of files each. All of a run are as large as
    its last one, which alone is measured.
    """
    outputs = result["files"]
    size = sum(entry["bytes"] for entry in outputs.values()) + _tree_bytes(folder.log)
    beside = [entry for entry in os.scandir(folder.path) if entry.name not in outputs]
    size += sum(entry.stat().st_size for entry in beside if entry.is_file())
    last = folder.last_checkpoint()
    if last is not None:
        size += _tree_bytes(last) * len([*folder.path.glob("checkpoints/step*/manifest.json")])
    return size


def peak_memory_bytes(folder: RunFolder, result: Mapping[str, Any]) -> float:
    """Return the peak memory of a run's GPU, as it logged it; without one, of its processes."""
    name, peaks = "System/Peak GPU Memory (MB)", [float(result["peak_memory_bytes"])]
    if result.get("device") == "cuda":
        logged = [row[name] * 1e6 for row in _some_rows(folder) if name in row]
        peaks = logged or peaks
    return max(peaks)


def _tree_bytes(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


def _some_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the first and the last logged steps of a training run: thousands, never millions."""
    if not folder.metrics.exists():
        return []
    with folder.metrics.open("rb") as metrics:
        lines = metrics.read(READ_BYTES).splitlines()
    if folder.metrics.stat().st_size > READ_BYTES:
        lines += read_end(folder.metrics, READ_BYTES).splitlines()
    rows: dict[int, dict[str, Any]] = {}
    for line in lines:
        with contextlib.suppress(ValueError):  # cut off at either end
            row = json.loads(line)
            if isinstance(row, dict) and "train/masked_instances" in row:
                rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]
