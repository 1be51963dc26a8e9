"""Which instances of an epoch's order each step takes, also where the batch size has changed."""

from dataclasses import dataclass

from olmo_core.config.duration import BEGINNING, Origin


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
