"""What a training run takes: tokens, FLOPs, time, disk and memory.

FLOPs are those of `olmo_core.config.model.flops_per_token`: per token 6 per parameter outside the
input table (Kaplan et al. 2020, Scaling Laws for Neural Language Models, section 2.1: 2 forward and
4 backward), and of attention 12 · layers · width · sequence (Chowdhery et al. 2022, PaLM, appendix
B), halved since it is causal. What is computed again for backward is not counted, as in MFU.

Time is that of the steps, with the pauses between them for checkpoints and evaluations, and of a
like run that of all else: starting, compiling, the last checkpoint. A step takes as long as its
FLOPs at the rate per device that the like run reached; where none is here, at an assumed MFU. More
devices are assumed to share a step without loss.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from olmo_core.config.duration import Duration, last_step
from olmo_core.config.load import to_dict
from olmo_core.config.model import count_parameters, flops_per_token
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.forecast.assumed import LIBRARIES_BYTES, reached_flops
from olmo_core.forecast.checkpoints import kept_steps
from olmo_core.forecast.figures import Figure, Forecast, Place, charged, median_of
from olmo_core.forecast.like import said
from olmo_core.forecast.past import PastRun
from olmo_core.monitor.dry_run import steps_of
from olmo_core.monitor.memory import memory_per_device
from olmo_core.run.code import TRAINING

MFU = 0.40
TRAINING_START_SECONDS = 3.0
CHECKPOINT_BYTES = 12  # per parameter: the weight and Adam's two moments, float32
WEIGHT_BYTES = 4  # per parameter, of the finished model
ROW_BYTES = 750  # of metrics.jsonl, per logged step
OF_TIME = ("seconds", "device_hours", "money", "device_kwh", "site_kwh", "co2_kg")

# What a step's time depends on beside its FLOPs.
_COMPUTED: Mapping[str, Callable[[TrainConfig], Any]] = {
    "model": lambda config: {
        key: value
        for key, value in to_dict(config.model).items()
        if not key.startswith("init") and not key.endswith("token_id")
    },
    "precision": lambda config: config.precision,
    "device_train_microbatch_size": lambda config: config.device_train_microbatch_size,
    "compile": lambda config: to_dict(config.compile) if config.compile else None,
    "activation_checkpointing": lambda config: config.activation_checkpointing,
    "generate_doc_lengths": lambda config: config.data.generate_doc_lengths,
    "fsdp": lambda config: to_dict(config.fsdp),
    "core.deterministic": lambda config: config.core.deterministic,
}


@dataclass(frozen=True, kw_only=True)
class TrainingWork:
    """A training run as a forecast sees it; `mix_tokens` are those of its data, if known."""

    asset: str
    config: TrainConfig
    mix_tokens: float | None = None

    @property
    def steps(self) -> int | None:
        """Return the steps of the run; None where only the size of its data could tell."""
        config = self.config
        steps, _ = steps_of(replace(config, load_path=None))
        if steps is None and config.max_duration is not None and self.mix_tokens is not None:
            windows = int(self.mix_tokens) // config.sequence_length
            duration = Duration.parse(config.max_duration)
            steps = duration.value * (windows // config.global_train_batch_size)
        if steps is None:
            return config.stop_at
        return last_step(steps, config.stop_at)

    @property
    def step_flops(self) -> float:
        """Return the FLOPs of one step."""
        config = self.config
        return float(flops_per_token(config.model, config.sequence_length) * config.tokens_per_step)


@dataclass(frozen=True, kw_only=True)
class LikeTraining:
    """A finished training run, and in what it differs from the one to come."""

    run: PastRun
    rate: float  # FLOP/s per device, of its mean step
    overhead: float  # seconds that were no steps, from the submission to the end
    differences: tuple[str, ...]


def forecast_training(work: TrainingWork, place: Place, runs: Sequence[PastRun]) -> Forecast:
    """Return what a training run takes.

    Args:
        work: The run.
        place: Where it runs.
        runs: Finished training runs, of whatever asset.

    Raises:
        ConfigError: the devices do not divide the global batch.
    """
    config, steps = work.config, work.steps
    parameters = count_parameters(config.model).total
    if config.global_train_batch_size % place.devices:
        raise ConfigError(
            f"{work.asset}: global_train_batch_size {config.global_train_batch_size} does not "
            f"divide by {place.devices} devices"
        )
    likes = _nearest(work, place, runs)
    figures = {"memory_bytes": _memory(work, place, likes)}
    numbers: dict[str, float] = {"parameters": float(parameters)}
    unknown: dict[str, str] = {}
    if steps is None:
        reason = "how many steps it has depends on the size of its data, which is not known"
        unknown = dict.fromkeys(("tokens", "flops", *OF_TIME, "disk_bytes"), reason)
        return Forecast(asset=work.asset, figures=figures, unknown=unknown, numbers=numbers)
    tokens = steps * config.tokens_per_step
    per_token = flops_per_token(config.model, config.sequence_length)
    figures["tokens"] = Figure(
        value=float(tokens), basis=f"{steps:,} steps of {config.tokens_per_step:,}"
    )
    figures["flops"] = Figure(
        value=float(tokens * per_token),
        basis=f"{per_token:.4g} per token: 6 N + 6 layers × width × sequence",
    )
    figures["disk_bytes"] = _disk(config, steps, parameters, likes)
    numbers |= {"tokens": float(tokens), "steps": float(steps)}
    seconds = _seconds(work, steps, place, likes)
    if seconds is None:
        named = (
            f"of {place.device!r} no peak is known"
            if place.device
            else ("its device is not named (work.…device of the site file, or --device)")
        )
        unknown = dict.fromkeys(OF_TIME, f"nothing like it has been run here, and {named}")
    else:
        figures["seconds"] = seconds
        further, unknown = charged(place, seconds, watts=_watts(config, likes), trains=True)
        figures |= further
    return Forecast(asset=work.asset, figures=figures, unknown=unknown, numbers=numbers)


def _nearest(work: TrainingWork, place: Place, runs: Sequence[PastRun]) -> list[LikeTraining]:
    """Return the finished trainings that are most like it, all that are equally so.

    The fewest differences count; of another model, those whose step is nearest in FLOPs.
    """
    found: list[LikeTraining] = []
    for run in runs:
        if run.module != TRAINING or run.kind != place.kind or not run.step_seconds:
            continue
        try:
            config = run.train_config
        except ConfigError:  # made by another version of the code, whose keys these are not
            continue
        other = TrainingWork(asset=work.asset, config=config)
        differences = [key for key, of in _COMPUTED.items() if of(config) != of(work.config)]
        if run.devices != place.devices:
            differences.append(f"devices ({run.devices})")
        elif run.cores != place.cores and not place.gpus:
            differences.append(f"cores ({run.cores})")
        held = run.start_seconds + run.work_seconds
        found.append(
            LikeTraining(
                run=run,
                rate=other.step_flops / run.step_seconds / run.devices,
                overhead=max(0.0, held - run.last_attempt_steps * run.step_seconds),
                differences=tuple(differences),
            )
        )
    if not found:
        return []
    fewest = min(len(each.differences) for each in found)
    alike = [each for each in found if len(each.differences) == fewest]
    return [each for each in alike if each.differences == alike[0].differences]


def _seconds(
    work: TrainingWork, steps: int, place: Place, likes: Sequence[LikeTraining]
) -> Figure | None:
    if likes:
        rate = statistics.median(each.rate for each in likes)
        overhead = statistics.median(each.overhead for each in likes)
        step = work.step_flops / rate / place.devices
        _, seen = median_of(
            [each.overhead + steps * work.step_flops / each.rate / place.devices for each in likes]
        )
        name = likes[0].run.name
        more = f" and {len(likes) - 1} alike, their medians" if len(likes) > 1 else ""
        apart = f"; {seen.least:.1f} to {seen.most:.1f} s as in each alone" if seen else ""
        return Figure(
            value=overhead + steps * step,
            basis=f"measured: {rate / 1e9:,.4g} GFLOP/s per device, {step:.4g} s a step, and "
            f"{overhead:.1f} s beside the steps ({name}{more}{said(likes[0].differences)}{apart})",
            seen=seen,
        )
    reached = reached_flops(place, MFU)
    if reached is None:
        return None
    value, how = reached
    seconds = TRAINING_START_SECONDS + steps * work.step_flops / value / place.devices
    return Figure(value=seconds, basis=f"assumed: {how}")


def _watts(config: TrainConfig, likes: Sequence[LikeTraining]) -> Figure | None:
    """Return the power of a device that a like run measured, or that the run's own key states."""
    measured = next((each.run.watts for each in likes if each.run.watts), None)
    stated = config.core.power_watts
    if measured is not None or stated is None:
        return measured
    return Figure(value=stated, basis=f"assumed, {stated:g} W per device (core.power_watts)")


def _disk(
    config: TrainConfig, steps: int, parameters: int, likes: Sequence[LikeTraining]
) -> Figure:
    """Return what the folder of a finished run holds: checkpoints that are kept, weights, rows.

    What arithmetic leaves out (metadata of checkpoints, records) is as much of it as in a finished
    run of the same model.
    """
    kept, rows = len(kept_steps(config, steps)), steps // config.console_log_interval
    basis = (
        f"{kept:,} checkpoint{'s' * (kept != 1)} of {CHECKPOINT_BYTES} bytes per parameter, "
        f"weights of {WEIGHT_BYTES}, {rows:,} logged steps"
    )
    more = 1.0
    if likes and "model" not in likes[0].differences:
        run = likes[0].run
        more = run.disk_bytes / _arithmetic_disk(run.train_config, run.numbers["steps"], parameters)
        basis += f"; × {more:.3f} as in {run.name}"
    return Figure(value=more * _arithmetic_disk(config, steps, parameters), basis=basis)


def _arithmetic_disk(config: TrainConfig, steps: int, parameters: int) -> float:
    kept, rows = len(kept_steps(config, steps)), steps // config.console_log_interval
    return float((CHECKPOINT_BYTES * kept + WEIGHT_BYTES) * parameters + ROW_BYTES * rows)


def _memory(work: TrainingWork, place: Place, likes: Sequence[LikeTraining]) -> Figure:
    """Return the peak of a GPU by arithmetic; without GPUs, of all ranks of a node.

    What arithmetic leaves out (libraries, the device's context, fragmentation) is that of a like
    run.
    """
    ranks = max(1, place.devices // place.nodes)

    def planned(config: TrainConfig, devices: int) -> float:
        per_node = min(devices, ranks)
        of_one = memory_per_device(config, devices=devices, devices_per_node=per_node).total
        return float(of_one if place.gpus else of_one * per_node)

    own = planned(work.config, place.devices)
    if likes:
        beside = statistics.median(
            each.run.memory_bytes - planned(each.run.train_config, each.run.devices)
            for each in likes
        )
        whose = f"{likes[0].run.name}{said(likes[0].differences)}"
        return Figure(value=own + beside, basis=f"arithmetic, and what it leaves out in {whose}")
    if place.gpus:
        return Figure(value=own, basis="arithmetic, without the device's context and fragmentation")
    return Figure(
        value=own + ranks * LIBRARIES_BYTES,
        basis="arithmetic, and 0.5 GB of libraries per rank, assumed",
    )
