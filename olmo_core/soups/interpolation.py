"""The loss along the line between two models' weights, and the barrier on it.

Run as `python -m olmo_core.soups.interpolation RUN_FOLDER/config.yaml`. The barrier is the largest
height of the curve above the straight line between the losses of its ends (Entezari et al.,
https://arxiv.org/abs/2110.06296): near zero where a mean of the two is as good as they are (linear
mode connectivity, https://arxiv.org/abs/1912.05671). No model on the line is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from olmo_core.config.soups import InterpolationJobConfig
from olmo_core.files import write_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model on the line."""

    share: float  # of the second model
    loss: float  # nats per token
    line: float  # what the losses of the ends would lead one to expect
    above_line: float


def make(config: InterpolationJobConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Measure the held-out loss of evenly spaced models on the line, the ends among them."""
    from olmo_core.soups.held_out import HeldOutLoss  # torch takes seconds

    first, second = config.between
    held_out = HeldOutLoss(
        config.perplexity,
        {name: inputs[name] for name in config.between},
        held_out=inputs["held_out"],
        tokenizer=inputs["tokenizer"],
        measurements=config.points,
        job=job,
    )
    shares = [number / (config.points - 1) for number in range(config.points)]
    losses = [
        held_out.measure(
            {first: 1 - share, second: share}, f"{1 - share:.3g} {first} + {share:.3g} {second}"
        )
        for share in shares
    ]
    curve = points(losses)
    highest = max(curve, key=lambda point: point.above_line)
    lowest = min(curve, key=lambda point: point.loss)
    rows = [asdict(point) for point in curve]
    write_json(
        job.folder / "curve.json",
        {"between": list(config.between), "points": rows, "held_out": held_out.documents},
    )
    return Report(
        numbers={
            "barrier": highest.above_line,
            "barrier_at": highest.share,
            "lowest_loss": lowest.loss,
            "lowest_at": lowest.share,
            "from": first,
            "to": second,
        },
        tables={"curve": rows},
        data={"between": list(config.between), "barrier": highest.above_line},
    )


def points(losses: Sequence[float]) -> list[Point]:
    """Return the points of the curve of these losses, at even distances from the first to the last.

    Both ends lie on the line, so that the highest is never below it.
    """
    found: list[Point] = []
    last = len(losses) - 1
    for number, loss in enumerate(losses):
        share = number / last
        line = (1 - share) * losses[0] + share * losses[-1]
        found.append(Point(share=share, loss=loss, line=line, above_line=loss - line))
    return found


if __name__ == "__main__":
    run_job(InterpolationJobConfig, make)
