"""What a training run takes, against arithmetic by hand and the saving of checkpoints itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.model import count_parameters, flops_per_token
from olmo_core.errors import ConfigError
from olmo_core.forecast.checkpoints import kept_steps
from olmo_core.forecast.figures import Forecast, Place, PlaceEnergyConfig
from olmo_core.forecast.past import find_runs
from olmo_core.forecast.training import TrainingWork, forecast_training
from olmo_core.train.saving import kind_due, last_kind, saves_first
from tests.olmo_core.forecast.conftest import TINY, train_config, write_training

H100S = Place(devices=8, gpus=True, device="NVIDIA H100 80GB HBM3", nodes=1)


TWO_CORES = Place(cores=2)


def forecast(root: Path, place: Place = TWO_CORES, **changes: Any) -> Forecast:
    work = TrainingWork(asset="stage1", config=train_config(**changes))
    return forecast_training(work, place, find_runs([root], ["stage1"]))


def test_tokens_and_flops_are_those_of_the_steps(root: Path) -> None:
    config = train_config()
    made = forecast(root)
    tokens = 100 * 8 * 32
    assert made.value("tokens") == tokens
    n = count_parameters(config.model).without_input_embedding
    assert flops_per_token(config.model, 32) == 6 * n + 6 * 2 * 16 * 32
    assert made.value("flops") == tokens * (6 * n + 6 * 2 * 16 * 32)


def test_without_a_like_run_a_gpu_reaches_an_assumed_share_of_its_peak(root: Path) -> None:
    made = forecast(root, H100S)
    flops = made.value("flops")
    assert flops is not None
    assert made.value("seconds") == pytest.approx(3.0 + flops / (0.40 * 989e12 * 8))
    assert "MFU 40%" in made.figures["seconds"].basis
    hours = made.value("device_hours")
    assert made.value("device_kwh") == pytest.approx((hours or 0) * 0.7)
    assert "data sheet" in made.figures["device_kwh"].basis


def test_a_gpu_that_nobody_names_has_no_time_and_says_why(root: Path) -> None:
    made = forecast(root, Place(devices=8, gpus=True))
    assert made.value("seconds") is None
    assert "--device" in made.unknown["seconds"]
    assert "device_hours" in made.unknown
    assert made.value("memory_bytes") is not None


@pytest.mark.parametrize(
    ("ran_on", "counts"),
    [
        ("H100", True),
        ("NVIDIA H100 80GB HBM3", True),
        ("H100-SXM5-80GB", True),
        ("NVIDIA H100 PCIe", False),
        ("NVIDIA H200", False),
        ("", False),
    ],
)
def test_a_gpu_is_the_same_whatever_it_is_called(root: Path, ran_on: str, counts: bool) -> None:
    folder = write_training(
        root, "demo/stage1/a", train_config(), step_seconds=0.5, devices=8, device="cuda"
    )
    launch = json.loads((folder / "launch.json").read_text())
    launch["forecast"] = {"place": {"device": ran_on}}
    (folder / "launch.json").write_text(json.dumps(launch))
    assert ("demo/stage1/a" in forecast(root, H100S).figures["seconds"].basis) == counts


def test_an_equal_run_is_forecast_as_it_went(root: Path) -> None:
    write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, overhead=7.0)
    made = forecast(root)
    assert made.value("seconds") == pytest.approx(7.0 + 100 * 0.5)
    assert "demo/stage1/a" in made.figures["seconds"].basis
    assert "differs" not in made.figures["seconds"].basis


def test_more_steps_take_longer_and_what_is_no_step_does_not(root: Path) -> None:
    write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, overhead=7.0)
    made = forecast(root, max_duration=1000, stop_at=1000)
    assert made.value("seconds") == pytest.approx(7.0 + 1000 * 0.5)


def test_pauses_between_steps_grow_with_the_steps(root: Path) -> None:
    folder = write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, overhead=7.0)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["time"] += 3.0 * (row["step"] // 20)  # an evaluation every 20 steps
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = json.loads((folder / "result.json").read_text())
    result["work_seconds"] += 15.0
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    assert forecast(root).value("seconds") == pytest.approx(7.0 + 100 * 0.5 + 15)
    longer = forecast(root, max_duration=1000, stop_at=1000).value("seconds")
    assert longer == pytest.approx(7.0 + 1000 * 0.5 + 150, rel=0.01)


def test_another_model_goes_by_its_flops_and_says_so(root: Path) -> None:
    write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, overhead=0.0)
    larger = {**TINY["model"], "d_model": 32}
    made = forecast(root, model=larger)
    ratio = flops_per_token(train_config(model=larger).model, 32) / flops_per_token(
        train_config().model, 32
    )
    assert made.value("seconds") == pytest.approx(100 * 0.5 * ratio)
    assert "differs in model" in made.figures["seconds"].basis


def test_more_devices_share_a_step(root: Path) -> None:
    write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, overhead=0.0)
    made = forecast(root, Place(devices=4, cores=2))
    assert made.value("seconds") == pytest.approx(100 * 0.5 / 4)
    assert "devices (1)" in made.figures["seconds"].basis


def test_the_run_with_the_fewest_differences_counts_and_of_equal_ones_the_median(
    root: Path,
) -> None:
    other = train_config(model={**TINY["model"], "n_layers": 1})
    write_training(root, "demo/stage1/other", other, step_seconds=9.0)
    for number, seconds in enumerate((0.4, 0.5, 0.9)):
        write_training(root, f"demo/stage1/{number}", train_config(), step_seconds=seconds)
    seconds = forecast(root).figures["seconds"]
    assert seconds.value == pytest.approx(5.0 + 100 * 0.5)
    assert seconds.seen is not None
    assert seconds.seen.runs == 3
    assert seconds.seen.least == pytest.approx(5.0 + 100 * 0.4)
    assert seconds.seen.most == pytest.approx(5.0 + 100 * 0.9)
    assert "; 45.0 to 95.0 s as in each alone" in seconds.basis


def test_a_run_of_the_same_model_tells_what_arithmetic_leaves_out_of_the_disk(root: Path) -> None:
    parameters = count_parameters(train_config().model).total
    arithmetic = (12 * 3 + 4) * parameters + 750 * 100  # checkpoints of steps 40, 80 and 100
    assert forecast(root).value("disk_bytes") == arithmetic
    folder = write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5)
    for step in (40, 80, 100):
        (folder / "checkpoints" / f"step{step}").mkdir(parents=True)
        (folder / "checkpoints" / f"step{step}" / "manifest.json").write_bytes(b" " * arithmetic)
    held = 3 * arithmetic + sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    made = forecast(root)
    assert made.value("disk_bytes") == pytest.approx(held)
    assert "as in demo/stage1/a" in made.figures["disk_bytes"].basis
    other = forecast(root, model={**TINY["model"], "n_layers": 1})
    assert "as in" not in other.figures["disk_bytes"].basis


def test_a_run_on_a_gpu_says_nothing_of_a_cpu(root: Path) -> None:
    write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, device="cuda")
    assert "assumed" in forecast(root).figures["seconds"].basis


def test_devices_that_do_not_divide_the_batch_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="global_train_batch_size 8 does not divide by 3"):
        forecast(root, Place(devices=3))


def test_ranks_without_gpus_are_devices_of_the_stated_power(root: Path) -> None:
    energy = PlaceEnergyConfig(watts_per_device=60, watts_per_node=500)
    made = forecast(root, Place(devices=4, cores=4, energy=energy))
    assert made.value("device_kwh") == pytest.approx((made.value("device_hours") or 0) * 0.06)


def test_measured_power_comes_before_stated(root: Path) -> None:
    config = train_config(core={"power_watts": 50})
    write_training(
        root,
        "demo/stage1/a",
        config,
        step_seconds=1.0,
        overhead=1.0,
        start_seconds=0.0,
        energy_source="rapl",
        numbers={"energy_kwh": 0.1},
    )
    made = forecast(root, core={"power_watts": 50})
    assert "measured" in made.figures["device_kwh"].basis
    assert (
        "core.power_watts"
        in forecast(root / "none", core={"power_watts": 50}).figures["device_kwh"].basis
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"save_num_checkpoints_to_keep": 1},
        {"save_num_checkpoints_to_keep": 0},
        {"save_num_checkpoints_to_keep": 2, "no_pre_train_checkpoint": False},
        {"save_interval": None},
        {"save_interval": None, "no_pre_train_checkpoint": False},
        {"save_interval_unsharded": 25},
        {"save_interval_unsharded": 20, "save_num_checkpoints_to_keep": 0},
        {"save_interval_unsharded": 20, "save_num_unsharded_checkpoints_to_keep": 2},
        {"save_interval_unsharded": 20, "save_num_unsharded_checkpoints_to_keep": 0},
        {"save_interval_ephemeral": 7, "save_num_checkpoints_to_keep": 2},
    ],
)
def test_those_checkpoints_are_kept_that_training_keeps(changes: dict[str, Any]) -> None:
    config = train_config(**changes)
    there = [("sharded", 0)] if saves_first(config) else []
    for step in range(1, 101):
        kind = last_kind(config) if step == 100 else kind_due(config, step)
        if kind is None:
            continue
        there = [each for each in there if each[0] != "ephemeral"]
        keep = {
            "sharded": config.save_num_checkpoints_to_keep,
            "unsharded": config.save_num_unsharded_checkpoints_to_keep,
        }
        for each, most in keep.items():
            if most >= 0:
                of_kind = [other for other in there if other[0] == each]
                excess = len(of_kind) - max(0, most - (each == kind))
                for oldest in of_kind[: max(0, excess)]:
                    there.remove(oldest)
        there.append((kind, step))
    assert kept_steps(config, 100) == [step for _, step in there]


def test_a_run_whose_keys_this_version_does_not_read_is_no_measure(root: Path) -> None:
    write_training(root, "demo/stage1/a", train_config(), step_seconds=0.5, overhead=7.0)
    other = write_training(root, "demo/stage1/b", train_config(), step_seconds=5.0)
    with (other / "config.yaml").open("a") as config:
        config.write("key_of_tomorrow: 1\n")
    assert forecast(root).value("seconds") == pytest.approx(7.0 + 100 * 0.5)
