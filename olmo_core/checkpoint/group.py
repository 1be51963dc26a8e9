"""What ranks tell each other about a checkpoint, beside the training that goes on.

A group of its own, on gloo: on the training's group the messages of a save in the background and
those of a step would be taken for each other, and both would wait for ever.
"""

from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed as dist

from olmo_core.parallel.world import World

_TIMEOUT = timedelta(hours=1)  # a rank may write this much longer than another

T = TypeVar("T")


class Group:
    """The ranks of `world`, by another road; every rank makes it at the same place."""

    def __init__(self, world: World) -> None:
        self.first, self.rank, self.size = world.first, world.rank, world.size
        self._group: Any = (
            dist.new_group(backend="gloo", timeout=_TIMEOUT) if world.size > 1 else None
        )

    def gather(self, value: T) -> list[T] | None:
        """Return every rank's value, ordered by rank, on the first rank; None on the others."""
        if self._group is None:
            return [value]
        values: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return values

    def scatter(self, values: list[T] | None) -> T:
        """Return to each rank one of the first rank's `values`, in the order of the ranks."""
        if self._group is None:
            assert values is not None
            return values[0]
        mine: list[Any] = [None]
        dist.scatter_object_list(mine, values, src=0, group=self._group)
        return mine[0]

    def share(self, value: T) -> T:
        """Return the first rank's value, on every rank."""
        return self.scatter([value] * self.size if self.first else None)
