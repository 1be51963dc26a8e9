"""When a run stops before its end: who may ask, and how it goes on until then."""

import math
import time
from collections.abc import Callable

from olmo_core.config.train import TrainConfig


class Cancel:
    """Whether this process is asked to stop, and at which step the run then ends.

    SIGTERM, the cancel file and `time_limit` are answered by a checkpoint at once and then, as in
    OLMo, by `extra_steps_after_cancel` steps that are not saved, so that the curves of this attempt
    and the next overlap. A second SIGTERM ends those. `stop_after` is a step known beforehand.

    Args:
        config: `time_limit`, `stop_after`, `extra_steps_after_cancel`.
        requests: How often this process was asked to stop.
        step: Where this attempt begins.
        last_step: Where the run ends by itself.
    """

    def __init__(
        self, config: TrainConfig, *, requests: Callable[[], int], step: int, last_step: int
    ) -> None:
        self._requests, self._last_step = requests, last_step
        self._deadline = time.monotonic() + (config.time_limit or math.inf)
        self._extra_steps = config.extra_steps_after_cancel
        self._stop_after = step + (config.stop_after or math.inf)
        self._end = math.inf
        self.begun = False  # a stop was agreed on: nothing is saved any more

    def asked(self) -> tuple[bool, bool]:
        """Whether this rank is asked to stop, and whether at once."""
        requests = self._requests()
        return requests > 0 or time.monotonic() > self._deadline, requests > 1

    def why(self, step: int) -> str:
        """What a run that ends after `step` is stopped by, as far as this rank knows."""
        if step >= self._stop_after:
            return "by stop_after"
        over = time.monotonic() > self._deadline and not self._requests()
        return "by time_limit" if over else "on request"

    def begins(self, step: int, asking: float) -> bool:
        """Whether the run is stopped after `step`, and was not before.

        Args:
            step: Steps done.
            asking: Ranks that are asked to stop; the same number on all of them.
        """
        if self.begun or step >= self._last_step:
            return False
        if step >= self._stop_after:
            self._end = step
        elif asking:
            self._end = step + self._extra_steps
        else:
            return False
        self.begun = True
        return True

    def over(self, step: int, asking_at_once: float) -> bool:
        """Whether a run that is being stopped ends after `step`."""
        if not self.begun:
            return False
        return bool(asking_at_once) or step >= min(self._end, self._last_step)
