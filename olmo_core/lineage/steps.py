"""What `metrics.jsonl` tells of a step: whose attempt took it, whether its update was made."""

import bisect
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder


class _Row(msgspec.Struct):
    """A row of a step, as far as it is read here."""

    step: int
    attempt: int | None = None
    skipped: float | None = msgspec.field(default=None, name="optim/step_skipped")
    masked: float | None = msgspec.field(default=None, name="train/masked_instances")


@dataclass(frozen=True, kw_only=True)
class LoggedStep:
    """What the last row of a step says."""

    attempt: int | None  # that took it
    skipped: bool | None  # None: the run skips no steps
    masked_instances: int  # of its batch


def read_steps(metrics: Path) -> dict[int, LoggedStep]:
    """Return what is logged of each step; the last row of one counts, a torn line does not."""
    found: dict[int, LoggedStep] = {}
    decoder = msgspec.json.Decoder(_Row)
    if not metrics.exists():
        return found
    with metrics.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                row = decoder.decode(line)
                if row.masked is not None:  # else of an evaluation after the step
                    found[row.step] = LoggedStep(
                        attempt=row.attempt,
                        skipped=None if row.skipped is None else bool(row.skipped),
                        masked_instances=int(row.masked),
                    )
    return found


class StepLog:
    """The logged steps of a run.

    Args:
        folder: The run.
        skips: Whether the run leaves out updates (`core.skip_step`).
    """

    def __init__(self, folder: RunFolder, *, skips: bool) -> None:
        self._skips = skips
        self._steps = read_steps(folder.metrics)
        self._numbers = sorted(self._steps)
        self._began = attempts.began(folder)

    @property
    def last(self) -> int:
        """Return the last step that is logged; 0: none is."""
        return self._numbers[-1] if self._numbers else 0

    @property
    def attempts(self) -> set[int | None]:
        """Return the attempts whose steps count."""
        return {step.attempt for step in self._steps.values()}

    @property
    def skipped(self) -> list[int]:
        """Return the logged steps whose update was left out, ascending."""
        return [number for number in self._numbers if self._steps[number].skipped]

    def is_skipped(self, step: int) -> bool | None:
        """Return whether the update of a step was left out; None: the step is not logged."""
        if not self._skips:
            return False
        logged = self._steps.get(step)
        return None if logged is None else bool(logged.skipped)

    def masked_instances(self, step: int) -> int | None:
        """Return how many instances of a step were masked; None: the step is not logged."""
        logged = self._steps.get(step)
        return None if logged is None else logged.masked_instances

    def attempt(self, step: int) -> int | None:
        """Return the attempt whose step counts: that of the next logged one, if it is not logged.

        Whoever takes a step again takes all that follow again.
        """
        at = bisect.bisect_left(self._numbers, step)
        return self._steps[self._numbers[at]].attempt if at < len(self._numbers) else None

    def ranks(self, step: int) -> int | None:
        """Return between how many ranks a step's batch was divided; None where nothing says it."""
        place: Mapping[str, Any] = self._began.get(self.attempt(step) or 0, {}).get("place") or {}
        return place.get("devices")
