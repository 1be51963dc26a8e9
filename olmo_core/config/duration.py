"""How long a run lasts, in steps, tokens or epochs, and where each step lies in the data."""

import math
import re
from dataclasses import dataclass
from typing import Literal

# More than these, in steps, were hardly meant: no published run of OLMo's had 2 million.
PLAUSIBLE_STEPS, PLAUSIBLE_EPOCHS = 10_000_000, 100

EXTRA_STEPS = 10  # OLMo's: past the end of max_duration, at the rate's floor


def last_step(max_steps: int, stop_at: int | None) -> int:
    """Return the step that a run of `max_steps` ends with: `stop_at`, else some steps more."""
    return max_steps + EXTRA_STEPS if stop_at is None else stop_at


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a run's batch size took effect: the beginning, unless it goes on with another size."""

    step: int = 0
    tokens: int = 0
    epoch: int = 0  # from the run's first on
    instance: int = 0  # of that epoch: those before it have been seen

    def tokens_at(self, step: int, tokens_per_step: int) -> int:
        """Return the tokens seen after `step` steps of the run."""
        return self.tokens + (step - self.step) * tokens_per_step


BEGINNING = Origin()


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Global batches of `size` instances; what does not fill one ends an epoch unseen."""

    instances: int  # of an epoch
    size: int  # instances of a global batch
    origin: Origin = BEGINNING  # where this size took effect; steps before it are another run's

    @property
    def per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return self.instances // self.size

    def place(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step's batch, and its first instance in that epoch's order.

        Raises:
            IndexError: the step comes before the origin.
        """
        done = step - self.origin.step
        if done < 0:
            raise IndexError(f"step {step}: the first is {self.origin.step}")
        if done < self._rest:
            return self.origin.epoch, self.origin.instance + done * self.size
        epochs, batch = divmod(done - self._rest, self.per_epoch)
        return self.origin.epoch + 1 + epochs, batch * self.size

    def step_of(self, epoch: int, position: int) -> int | None:
        """Return the step that takes a position of an epoch; None where none from the origin on."""
        begun = epoch == self.origin.epoch
        batch, _ = divmod(position - (self.origin.instance if begun else 0), self.size)
        if epoch < self.origin.epoch or not 0 <= batch < (self._rest if begun else self.per_epoch):
            return None
        return self.end_of(epoch - 1) + batch

    def end_of(self, epoch: int) -> int:
        """Return the first step after an epoch; the origin's where that is over."""
        whole = epoch - self.origin.epoch
        return self.origin.step + (self._rest + whole * self.per_epoch if whole >= 0 else 0)

    @property
    def _rest(self) -> int:
        """Batches that are left of the epoch that the origin lies in."""
        return (self.instances - self.origin.instance) // self.size


Unit = Literal["steps", "tokens", "epochs"]
_UNITS: dict[str, Unit] = {"": "steps", "T": "tokens", "ep": "epochs"}


@dataclass(frozen=True)
class Duration:
    """A length of training: a number of steps, tokens or epochs."""

    value: int
    unit: Unit

    @classmethod
    def parse(cls, value: int | str | None) -> "Duration":
        """Read OLMo's `max_duration`: `1000`, `50e9T` or `2ep`.

        Raises:
            ValueError: anything else.
        """
        number, suffix = re.split("(T|ep|)$", str(value).strip())[:2]
        unit = _UNITS[suffix]
        try:
            given = float(number)
            length = int(given)
        except (ValueError, OverflowError):  # no number; infinity
            given = length = 0
        # half an epoch is no number of steps to OLMo, but 1.5e9T is one of tokens
        if length < 1 or (unit != "tokens" and length != given):
            raise ValueError(
                f"max_duration is {'null' if value is None else repr(value)}; expected steps "
                "(1000), tokens (50e9T) or epochs (2ep)"
            )
        return cls(length, unit)

    def steps(
        self, tokens_per_step: int, steps_per_epoch: int | None, origin: Origin = BEGINNING
    ) -> int | None:
        """Return the optimizer steps, rounded up; None for epochs of data of unknown size.

        Tokens count on from `origin`, epochs from the beginning.
        """
        if self.unit == "tokens":
            left = max(0, self.value - origin.tokens)
            return origin.step + math.ceil(left / tokens_per_step)
        if self.unit == "epochs":
            return None if steps_per_epoch is None else self.value * steps_per_epoch
        return self.value

    def tokens(self, tokens_per_step: int, steps_per_epoch: int | None) -> int | None:
        """Return the tokens, exact where the duration is given in tokens."""
        if self.unit == "tokens":
            return self.value
        steps = self.steps(tokens_per_step, steps_per_epoch)
        return None if steps is None else steps * tokens_per_step

    def doubt(self, tokens_per_step: int, steps_per_epoch: int | None) -> str | None:
        """Return what to tell whoever may have left out the unit; None where steps are plausible.

        Args:
            tokens_per_step: Of the global batch.
            steps_per_epoch: None where only the data could tell.
        """
        if self.unit != "steps":
            return None
        steps, epochs = self.value, self.value / (steps_per_epoch or math.inf)
        if steps <= PLAUSIBLE_STEPS and epochs <= PLAUSIBLE_EPOCHS:
            return None
        of_data = f", {epochs:,.0f} times the data" if steps_per_epoch else ""
        return (
            f"max_duration without a unit means steps: {steps:,} of them, "
            f"{steps * tokens_per_step:.4g} tokens{of_data}; {steps:.4g}T would mean tokens"
        )


def changed_batch_size(before: int, now: int, origin: Origin) -> str:
    """Say what changes where a run goes on with another batch size."""
    return (
        f"global_train_batch_size changes from {before} to {now} instances after step "
        f"{origin.step:,} ({origin.tokens:,} tokens): step, moments and the place in the data "
        f"(epoch {origin.epoch}, instance {origin.instance:,}) are kept, tokens count on; so a "
        "max_duration or schedule in tokens ends at another step, one in steps at other tokens"
    )
