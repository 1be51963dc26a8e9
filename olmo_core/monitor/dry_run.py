"""Predict what a configuration would do, without a device and without data. Free of torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from olmo_core.checkpoint.layout import checkpoint_at
from olmo_core.config.duration import (
    BEGINNING,
    EXTRA_STEPS,
    Batching,
    Duration,
    Origin,
    changed_batch_size,
    last_step,
)
from olmo_core.config.load import to_dict
from olmo_core.config.model import count_parameters, flops_per_token
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.evals.in_loop.labels import require_known
from olmo_core.monitor.memory import Memory, memory_per_device
from olmo_core.optim.schedule import ENDLESS, build_schedule
from olmo_core.remote.storage import is_remote

AFTER_THE_END = f"and {EXTRA_STEPS} more at the schedule's end: stop_at is not given"
DEVICES_PER_NODE = 8  # where the launcher does not say


def devices_of(environment: Mapping[str, str], devices: int | None) -> tuple[int, int]:
    """Return the number of devices and how many share a node: as given, else as the launcher says.

    Raises:
        ConfigError: a number below 1, or not a number.
    """
    if devices is None:
        devices = _number_of(environment, "WORLD_SIZE", 1)
    if devices < 1:
        raise ConfigError(f"--devices={devices}: expected at least 1")
    return devices, min(devices, _number_of(environment, "LOCAL_WORLD_SIZE", DEVICES_PER_NODE))


def _number_of(environment: Mapping[str, str], name: str, default: int) -> int:
    said = environment.get(name, str(default))
    if not said.isdecimal() or int(said) < 1:
        raise ConfigError(f"environment: {name} is {said!r}; expected a whole number above 0")
    return int(said)


def plan(
    config: TrainConfig, moments: Sequence[int] = (), *, devices: int | None = None
) -> dict[str, Any]:
    """Return the figures of a dry run.

    Args:
        config: The run.
        moments: Steps whose learning rate to return; by default evenly spaced ones and the last.
        devices: How many devices to spread over; None: as the environment says (`WORLD_SIZE`).

    Returns:
        `{config, parameters, tokens_per_step, max_steps, learning_rate, memory_bytes_per_device,
        flops_per_token}`. If the number of steps depends on the size of data that is not at hand,
        `max_steps` is None and `max_steps_reason` says why; `learning_rate` is empty if the
        schedule depends on it too. `max_steps_doubt` is there if a unit was probably left out.

    Raises:
        ConfigError: more devices than instances in a global batch, or a number below 1; an
            evaluator's label that nobody knows.
    """
    require_known(config.evaluators, config.core.evaluators)
    count = count_parameters(config.model)
    steps, reason = steps_of(config)
    doubt = steps and Duration.parse(config.max_duration).doubt(config.tokens_per_step, None)
    before, origin = _origin_of(config)
    change = before and changed_batch_size(before, config.global_train_batch_size, origin)
    return {
        "config": to_dict(config),
        "parameters": {
            "total": count.total,
            "without_input_embedding": count.without_input_embedding,
        },
        "tokens_per_step": config.tokens_per_step,
        "max_steps": steps,
        **({"max_steps_reason": reason} if reason else {}),
        **({"max_steps_doubt": doubt} if doubt else {}),
        **({"batch_size_change": change} if change else {}),
        "learning_rate": _rates(config, steps, moments),
        "memory_bytes_per_device": planned_memory(config, devices).total,
        "flops_per_token": flops_per_token(config.model, config.sequence_length),
    }


def planned_memory(config: TrainConfig, devices: int | None) -> Memory:
    """Return `memory_per_device` for the given number of devices, or the environment's."""
    number, per_node = devices_of(os.environ, devices)
    if config.global_train_batch_size % number:
        raise ConfigError(
            f"global_train_batch_size {config.global_train_batch_size} does not divide by "
            f"{number} devices"
        )
    return memory_per_device(config, devices=number, devices_per_node=per_node)


def steps_of(config: TrainConfig) -> tuple[int | None, str | None]:
    """Return the optimizer steps of `max_duration`; None and the reason if only the data could
    tell.
    """
    if config.max_duration is None:
        return None, "max_duration is null: give steps (1000), tokens (50e9T) or epochs (2ep)"
    duration = Duration.parse(config.max_duration)
    origin = _origin_of(config)[1]
    if duration.unit != "epochs":
        return duration.steps(config.tokens_per_step, None, origin), None
    windows = _windows(config)
    if isinstance(windows, str):
        return None, f"max_duration is {config.max_duration}: {windows}"
    batching = Batching(instances=windows, size=config.global_train_batch_size, origin=origin)
    return batching.end_of(duration.value - 1), None


def _origin_of(config: TrainConfig) -> tuple[int | None, Origin]:
    """Look where the batch size changes: another one than that of the checkpoint in `load_path`.

    Returns that one's batch size, None where it is the same or no checkpoint of ours is at hand.
    """
    restored = config.restore_dataloader and not config.reset_trainer_state
    if config.load_path is None or is_remote(config.load_path) or not restored:
        return None, BEGINNING
    checkpoint = checkpoint_at(Path(config.load_path))
    content = checkpoint.read_train() if checkpoint is not None else {}
    order = content.get("order", {})
    before = Batching(
        instances=order.get("windows", 0),
        size=order.get("global_batch_size", config.global_train_batch_size),
        origin=Origin(**order.get("origin", {})),
    )
    if before.size == config.global_train_batch_size:
        return None, before.origin
    epoch, instance = before.place(content["step"])
    origin = Origin(step=content["step"], tokens=content["tokens"], epoch=epoch, instance=instance)
    return before.size, origin


def _windows(config: TrainConfig) -> int | str:
    """Return how many windows the data have, or why that is not known here."""
    from olmo_core.data.manifest import ASSET, Manifest  # numpy and fsspec: only for epochs

    core, data = config.core, config.data
    if core.manifest is not None and core.manifest.is_file():
        manifest = Manifest.read(core.manifest, root=core.roots.get(ASSET, Path()))
    elif not data.paths:
        return "epochs need the size of the data, and none is given or made (data.paths)"
    else:
        for path in data.paths:
            if is_remote(path):
                return f"epochs need the size of the data, and {path} lies elsewhere"
            if not Path(path).is_file():
                return f"epochs need the size of the data, and {path} is not there"
        manifest = Manifest.from_paths(data.paths, dtype=data.memmap_dtype)
    return sum(stream.tokens // config.sequence_length for stream in manifest.streams)


def _rates(config: TrainConfig, steps: int | None, moments: Sequence[int]) -> dict[str, float]:
    scheduler, origin = config.scheduler, _origin_of(config)[1]
    if steps is None and scheduler.t_max is None and scheduler.name not in ENDLESS:
        return {}
    schedule = build_schedule(config, steps, origin)
    per_moment = config.tokens_per_step if scheduler.units == "tokens" else 1
    last = steps or max(1, int((scheduler.t_max or scheduler.t_warmup) / per_moment))
    first, length = origin.step, last - origin.step
    chosen = moments or sorted(
        {first + part for part in (1, length // 4, length // 2, 3 * length // 4, length) if part}
        | {config.stop_at or last}
    )
    return {str(step): schedule.learning_rate(schedule.moment(step)) for step in chosen}


def last_rate(config: TrainConfig) -> float | None:
    """Return the learning rate of the run's last step; None where only the data could tell."""
    steps, _ = steps_of(config)
    end = config.stop_at if steps is None else last_step(steps, config.stop_at)
    return next(iter(_rates(config, steps, [end]).values()), None) if end else None


def render(planned: Mapping[str, Any], memory: Memory, devices: int) -> str:
    """Return the dry run as text."""
    parameters, steps = planned["parameters"], planned["max_steps"]
    tokens = planned["tokens_per_step"]
    stop_at = planned["config"]["stop_at"]
    whole = f"{steps:,} ({steps * tokens:,} tokens)" if steps else planned.get("max_steps_reason")
    ending = f"stops at {stop_at:,}" if stop_at is not None else AFTER_THE_END
    unit, unit_bytes = ("GiB", 2**30) if memory.total >= 2**30 else ("MiB", 2**20)
    parts = "  ".join(
        f"{name.replace('_', ' ')} {value / unit_bytes:.2f}"
        for name, value in to_dict(memory).items()
    )
    inner, total = parameters["without_input_embedding"], f"{memory.total / unit_bytes:.2f} {unit}"
    run_flops = planned["flops_per_token"] * tokens * (last_step(steps, stop_at) if steps else 0)
    rates = planned["learning_rate"].items()
    rows = [
        ("parameters", f"{parameters['total']:,} ({inner:,} without the input embedding)"),
        ("tokens per step", f"{tokens:,}"),
        ("steps", f"{whole}, {ending}"),
        ("FLOPs per token", f"{planned['flops_per_token']:.4g}"),
        ("is that meant?", planned.get("max_steps_doubt")),
        ("batch size", planned.get("batch_size_change")),
        ("FLOPs in all", f"{run_flops:.4g}" if steps else None),
        ("memory per device", f"{total} on {devices} device{'s' * (devices > 1)} ({parts})"),
        ("", "without the device's context, fragmentation and collectives"),
        *(("learning rate", f"{rate:<12.6g} at step {int(step):,}") for step, rate in rates),
        ("learning rate", None if rates else "not known: the schedule ends with the data"),
    ]
    figures = (f"{title:<19}{text}" for title, text in rows if text)
    return "\n".join((yaml.safe_dump(planned["config"], sort_keys=False), *figures))
