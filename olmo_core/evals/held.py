"""What a process makes once for all its jobs, known by what it is of and not by where that lies.

A process may evaluate many checkpoints, one job after another (`olmo_core.run.in_turn`). Tasks,
their requests and tokenizers are the same for all of them; only the weights are others.
"""

import json
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """The value that was asked for last."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._value: T

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Return the value of a key; `make` makes it where another was asked for before.

        Args:
            key: All that decides the value, as JSON has it.
            make: Returns the value; nothing is held where it raises.
        """
        text = json.dumps(key, sort_keys=True, default=str)
        if text != self._key:
            self._key = None
            self._value = make()
            self._key = text
        return self._value
