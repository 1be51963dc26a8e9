"""The figures of a step, by hand; peaks of devices; garbage; profiles."""

import dataclasses
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from olmo_core.config.model import flops_per_token
from olmo_core.config.placement import SpeedMonitorConfig
from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.monitor.devices import known_flops
from olmo_core.monitor.metrics import Speed, loss_metrics
from olmo_core.monitor.mfu import peak_flops
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.train.host_memory import collecting


@pytest.fixture
def config(config_file: Path) -> TrainConfig:
    loaded, _ = load_train_config(config_file)
    return dataclasses.replace(loaded, speed_monitor=SpeedMonitorConfig(window_size=2))


def test_speed_by_hand(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 1.0, 3.0, 5.0, 10.0, 12.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    flops = flops_per_token(config.model, 32)
    speed = Speed(config, 2, peak_flops=64 * flops * 10)
    first = speed.step_done(256, 0.0)
    assert first["throughput/total_tokens"] == 256
    assert first["throughput/total_training_Gflops"] == round(256 * flops / 1e9, 3)
    assert "throughput/device/tokens_per_second" not in first
    # 8 instances of 32 tokens per step, half of them on this device
    assert speed.step_done(512, 0.0)["throughput/device/tokens_per_second"] == 128
    row = speed.step_done(768, 0.5)
    assert row["throughput/device/batches_per_second"] == round(2 / 3, 4)
    assert row["throughput/device/data loading (s)"] == 0.5
    assert row["throughput/device/data loading (%)"] == 25
    # two steps in four seconds, the first gap has left the window: 64 tokens/s of 640 at best
    assert speed.step_done(1024, 0.0)["throughput/device/MFU"] == 10
    speed.pause()
    assert "throughput/device/MFU" not in speed.step_done(1280, 0.0)
    assert speed.step_done(1536, 0.0)["throughput/device/tokens_per_second"] == 64


def test_means_over_the_labels() -> None:
    sums = {"cross_entropy": 6.0, "z_loss": 0.5, "labels": 2.0, "masked_instances": 1.0}
    row = loss_metrics(sums, z_loss=True)
    assert row["train/CrossEntropyLoss"] == 3
    assert row["train/ZLoss"] == 0.25
    assert row["train/Perplexity"] == pytest.approx(20.0855369)
    assert "train/ZLoss" not in loss_metrics(sums, z_loss=False)


# Names as torch and the drivers say them; figures from the data sheets.
@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA GH200 144G HBM3e", 989e12),
        ("NVIDIA H800", 989e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA GB200", 2500e12),
        ("NVIDIA B300 SXM6 AC", 2250e12),
        ("NVIDIA GB300", 2500e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("AMD Instinct MI300X", 1307e12),
        ("AMD Instinct MI300X OAM", 1307e12),
        ("AMD Instinct MI325X", 1307e12),
        # a part of a known name is another device
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("NVIDIA A100-SXM-64GB", None),
        ("NVIDIA H100 64GB HBM2e", None),
        ("NVIDIA A10", None),
        ("NVIDIA T4", None),
    ],
)
def test_dense_bf16_peaks(name: str, flops: float | None) -> None:
    assert known_flops(name) == flops


def test_a_cpu_has_no_peak_and_a_given_one_counts_before_all() -> None:
    cpu = torch.device("cpu")
    assert peak_flops(cpu, bf16=True, given=None) is None
    assert peak_flops(cpu, bf16=False, given=5.0) == 5.0


def test_garbage_is_collected_between_steps_and_only_there() -> None:
    seen: list[int] = []

    def note(phase: str, found: dict[str, int]) -> None:
        if phase == "start":
            seen.append(found["generation"])

    gc.callbacks.append(note)
    try:
        with collecting(2) as step_done:
            assert not gc.isenabled()
            kept = [[i] for i in range(10_000)]  # Python would have collected
            assert seen == []
            for step in (1, 2, 3, 4):
                step_done(step)
            assert seen == [1, 1]
        assert gc.isenabled()
        with collecting(None) as step_done:
            assert gc.isenabled()
            step_done(2)
    finally:
        gc.callbacks.remove(note)
    assert len(kept) == 10_000


def test_profiles_and_energy_of_a_run(train: Callable[..., int], tmp_path: Path) -> None:
    wanted = ("python_profiling=true", "torch_profiling=true", "core.power_watts=100")
    assert train("run", *wanted) == 0
    table = (tmp_path / "run/profiler/python.txt").read_text()
    assert "forward_backward" in table
    # steps 5 to 8
    assert any(line.split()[:1] == ["4"] and "(_update)" in line for line in table.splitlines())
    trace = json.loads((tmp_path / "run/profiler/trace.json").read_text())
    steps = {
        event["name"] for event in trace["traceEvents"] if "ProfilerStep" in event.get("name", "")
    }
    assert steps == {"ProfilerStep#6", "ProfilerStep#7", "ProfilerStep#8"}
    energies = [row["energy/total_kWh"] for row in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert energies == sorted(energies)
    report = RunFolder(tmp_path / "run").read_result()["report"]
    assert report["numbers"]["energy_kwh"] == pytest.approx(energies[-1], rel=1e-3)
    assert report["data"]["energy_source"] == "core.power_watts"
