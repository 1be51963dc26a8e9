"""What a configuration would do, without a device and without data. Free of torch."""

from collections.abc import Sequence
from typing import Any

import yaml

from olmo_core.config.load import to_dict
from olmo_core.config.model import count_parameters, flops_per_token
from olmo_core.config.train import Duration, TrainConfig
from olmo_core.optim.schedule import Schedule


def plan(config: TrainConfig, moments: Sequence[int] = ()) -> dict[str, Any]:
    """The dry run's figures.

    Args:
        config: The run.
        moments: Steps whose learning rate to give; five evenly spaced ones by default.

    Returns:
        `{config, parameters, tokens_per_step, max_steps, learning_rate, flops_per_token}`;
        `max_steps` is None (and the rates are missing) for a duration in epochs.
    """
    count = count_parameters(config.model)
    duration = Duration.parse(config.max_duration)
    steps = duration.steps(config.tokens_per_step, None)
    return {
        "config": to_dict(config),
        "parameters": {
            "total": count.total,
            "without_input_embedding": count.without_input_embedding,
        },
        "tokens_per_step": config.tokens_per_step,
        "max_steps": steps,
        "learning_rate": {} if steps is None else _rates(config, duration, steps, moments),
        "flops_per_token": flops_per_token(config.model, config.sequence_length),
    }


def _rates(
    config: TrainConfig, duration: Duration, steps: int, moments: Sequence[int]
) -> dict[str, float]:
    in_tokens = config.scheduler.units == "tokens"
    end = duration.tokens(config.tokens_per_step, None) if in_tokens else steps
    schedule = Schedule(
        config=config.scheduler,
        peak=config.optimizer.learning_rate,
        end=config.scheduler.t_max or end or 0,
    )
    clock = config.tokens_per_step if in_tokens else 1
    chosen = moments or sorted({1, steps // 4, steps // 2, 3 * steps // 4, steps})
    return {str(step): schedule.learning_rate(step * clock) for step in chosen}


def render(planned: dict[str, Any]) -> str:
    """The dry run for a reader."""
    parameters, steps = planned["parameters"], planned["max_steps"]
    lines = [
        yaml.safe_dump(planned["config"], sort_keys=False),
        f"parameters        {parameters['total']:,} "
        f"({parameters['without_input_embedding']:,} without the input embedding)",
        f"tokens per step   {planned['tokens_per_step']:,}",
        f"steps             {'depends on the size of the data' if steps is None else f'{steps:,}'}",
        f"FLOPs per token   {planned['flops_per_token']:.4g}",
    ]
    lines += [
        f"learning rate     {rate:.6g} at step {step}"
        for step, rate in planned["learning_rate"].items()
    ]
    return "\n".join(lines)
