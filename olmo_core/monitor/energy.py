"""Energy that a run uses: measured where possible, else computed from a configured power.

The first source that exists is used: NVML's counter of this rank's GPU; RAPL's counters of the
machine's processor packages (read by the first rank of each machine; they include everything else
that runs there); `core.power_watts` times the time, for each rank. Without a source nothing is
reported.
"""

import importlib
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from olmo_core.parallel.world import World

log = logging.getLogger("olmo")

POWERCAP = Path("/sys/class/powercap")


class Energy:
    """Energy attributed to this rank (J).

    Args:
        world: This rank and its device.
        power_watts: Power of one device, used if nothing measures it.
        powercap: Where Linux exposes RAPL.
    """

    def __init__(
        self, world: World, power_watts: float | None, *, powercap: Path = POWERCAP
    ) -> None:
        self.source: str | None = None
        counter = None
        if world.device.type == "cuda":
            counter = _nvml(world.device)
            self.source = "nvml" if counter else None
        elif packages := _packages(powercap):
            self.source = "rapl"
            counter = _rapl(packages) if world.local_rank == 0 else float
        if counter is None and power_watts is not None:
            self.source = "core.power_watts"
            counter = _clock(power_watts)
        self._counter = counter
        self._last = counter() if counter else 0.0

    def joules(self) -> float:
        """Return the joules used since the last call; 0 if nothing measures them."""
        if self._counter is None:
            return 0.0
        now = self._counter()
        taken, self._last = now - self._last, now
        return taken


def _nvml(device: torch.device) -> Callable[[], float] | None:
    """Return NVML's energy counter of a GPU (J); None, with the reason logged, if unreadable."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        log.info("no energy from NVML: the package nvidia-ml-py is not installed")
        return None
    try:
        nvml.nvmlInit()
        # by UUID: NVML's numbers are not those of CUDA_VISIBLE_DEVICES
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        last = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        log.info("no energy from NVML: %s", error)
        return None

    def joules() -> float:
        nonlocal last
        try:
            last = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except nvml.NVMLError as error:
            # once per text: it may fail at each step from now on
            warnings.warn(f"NVML: {error}; its next answer holds this step's energy", stacklevel=1)
        return last / 1e3  # of millijoules

    return joules


def _packages(powercap: Path) -> list[Path]:
    """Return RAPL's readable top zones, one per processor package; their parts count twice."""
    readable: list[Path] = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            whole = (zone / "name").read_text().startswith("package")
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):  # since 2020 only root reads it, on most machines
            continue
        if whole:
            readable.append(zone)
    return readable


def _rapl(packages: list[Path]) -> Callable[[], float]:
    """Return a reader of the summed counters, in joules, corrected for wrap-around."""
    last = [_microjoules(zone / "energy_uj") for zone in packages]
    limits = [_microjoules(zone / "max_energy_range_uj") + 1 for zone in packages]
    total = 0

    def joules() -> float:
        nonlocal total
        for i, zone in enumerate(packages):
            now = _microjoules(zone / "energy_uj")
            total += (now - last[i]) % limits[i]
            last[i] = now
        return total / 1e6

    return joules


def _microjoules(path: Path) -> int:
    return int(path.read_text())


def _clock(watts: float) -> Callable[[], float]:
    return lambda: watts * time.monotonic()
