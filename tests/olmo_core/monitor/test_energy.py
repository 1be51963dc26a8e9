"""Energy from whatever measures it: a machine's counters are imitated by files and a module."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from olmo_core.monitor.energy import Energy
from olmo_core.parallel.world import World

CPU = World(device=torch.device("cpu"))


def zone(folder: Path, number: str, name: str, microjoules: int) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("9999999\n")
    return path


def test_rapl_s_packages_are_summed_and_their_wraps_counted(tmp_path: Path) -> None:
    one, two = zone(tmp_path, "0", "package-0", 5_000_000), zone(tmp_path, "1", "package-1", 0)
    zone(tmp_path, "0:0", "core", 1_000)  # a part of package 0
    zone(tmp_path, "2", "psys", 1_000)  # holds the packages
    energy = Energy(CPU, 100.0, powercap=tmp_path)
    assert energy.source == "rapl"
    (one / "energy_uj").write_text("6000000")
    (two / "energy_uj").write_text("500000")
    assert energy.joules() == pytest.approx(1.5)
    (one / "energy_uj").write_text("1000000")  # it has passed 9,999,999
    assert energy.joules() == pytest.approx(5.0)
    assert energy.joules() == 0.0


def test_a_machine_s_counters_count_once_for_all_its_ranks(tmp_path: Path) -> None:
    package = zone(tmp_path, "0", "package-0", 0)
    second = World(rank=1, size=2, local_rank=1, local_size=2, device=CPU.device)
    energies = [Energy(world, None, powercap=tmp_path) for world in (CPU, second)]
    (package / "energy_uj").write_text("3000000")
    assert [energy.joules() for energy in energies] == [3.0, 0.0]


def test_where_nothing_measures_a_power_is_taken_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    clock = iter((100.0, 102.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    configured = Energy(CPU, 250.0, powercap=tmp_path)
    assert configured.source == "core.power_watts"
    assert configured.joules() == 500.0
    none = Energy(CPU, None, powercap=tmp_path)
    assert (none.source, none.joules()) == (None, 0.0)


def test_nvml_s_counter_is_read_in_millijoules(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter((0, 7_000, 9_500, None, 12_000))

    def read(handle: bytes) -> int:
        assert handle == b"GPU-1-2"
        value = next(counter)
        if value is None:
            raise RuntimeError("Unknown Error")
        return value

    nvml: Any = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=read,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = SimpleNamespace(uuid="1-2")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    world = World(device=torch.device("cuda", 0))
    energy = Energy(world, None)
    assert energy.source == "nvml"
    assert energy.joules() == 2.5
    with pytest.warns(UserWarning, match="NVML: Unknown Error"):
        assert energy.joules() == 0.0  # a passing error ends no run, and loses nothing
    assert energy.joules() == 2.5

    def refuse() -> None:
        raise RuntimeError("no driver")

    nvml.nvmlInit = refuse
    assert Energy(world, None).source is None
    assert Energy(world, 700.0).source == "core.power_watts"
