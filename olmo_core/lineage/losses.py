"""The losses of trainings side by side: where they part, and where they lie furthest apart."""

import contextlib
import math
from dataclasses import dataclass

import msgspec
import numpy as np

from olmo_core.run.folder import RunFolder


class _Row(msgspec.Struct):
    """A row of a step, as far as it is read here."""

    step: int
    loss: float = msgspec.field(name="train/CrossEntropyLoss")
    tokens: float | None = msgspec.field(default=None, name="throughput/total_tokens")


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The logged losses of one training, by step: nats per token, and the tokens read so far."""

    steps: tuple[int, ...]
    tokens: tuple[float, ...]  # steps, where a row of before says no tokens
    losses: tuple[float, ...]

    def thinned(self, most: int) -> "Losses":
        """Return at most so many of the points, evenly spread, the first and the last among them.

        Args:
            most: At least 2.
        """
        count = len(self.steps)
        kept = range(count)
        if count > most:
            kept = np.linspace(0, count - 1, most).round().astype(int).tolist()
        return Losses(
            steps=tuple(self.steps[at] for at in kept),
            tokens=tuple(self.tokens[at] for at in kept),
            losses=tuple(self.losses[at] for at in kept),
        )


@dataclass(frozen=True, kw_only=True)
class LossDifference:
    """How the losses of two trainings differ, over the steps that both have logged."""

    steps: int  # that both have logged
    last: tuple[int, int]  # the last logged step of each
    last_losses: tuple[float, float]  # nats per token
    first_step: int | None  # the first whose losses are not equal bit by bit; None: all are
    largest: float  # the largest difference, the second minus the first, with its sign
    largest_step: int


def read_losses(run: RunFolder, *, up_to: int | None = None) -> Losses | None:
    """Return the losses that a run has logged; None: none.

    The last row of a step counts; a torn line does not.

    Args:
        run: A training's folder.
        up_to: The last step that is read; None: all.
    """
    if not run.metrics.is_file():
        return None
    decoder = msgspec.json.Decoder(_Row)
    found: dict[int, _Row] = {}
    with run.metrics.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):  # torn, or of an evaluation
                row = decoder.decode(line)
                if math.isfinite(row.loss) and (up_to is None or row.step <= up_to):
                    found[row.step] = row
    if not found:
        return None
    rows = [found[step] for step in sorted(found)]
    return Losses(
        steps=tuple(row.step for row in rows),
        tokens=tuple(float(row.step if row.tokens is None else row.tokens) for row in rows),
        losses=tuple(row.loss for row in rows),
    )


def compare_losses(before: Losses, after: Losses) -> LossDifference | None:
    """Return how two trainings' losses differ, step by step; None: no step that both logged."""
    old, new = (dict(zip(side.steps, side.losses, strict=True)) for side in (before, after))
    steps = sorted(old.keys() & new.keys())
    if not steps:
        return None
    largest_step = max(steps, key=lambda step: abs(new[step] - old[step]))
    return LossDifference(
        steps=len(steps),
        last=(before.steps[-1], after.steps[-1]),
        last_losses=(before.losses[-1], after.losses[-1]),
        first_step=next((step for step in steps if old[step] != new[step]), None),
        largest=new[largest_step] - old[largest_step],
        largest_step=largest_step,
    )
