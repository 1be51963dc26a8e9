"""When a run stops before its end: who may ask, and how it goes on until then."""

import math
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from olmo_core.config.train import TrainConfig


@dataclass
class Cancel:
    """Whether this process is asked to stop, and at which step the run then ends.

    SIGTERM, the cancel file and `time_limit` are answered by a checkpoint at once and then, as in
    OLMo, by `extra_steps_after_cancel` steps that are not saved, so that the curves of this attempt
    and the next overlap. A second SIGTERM ends those. `stop_after` is a step known beforehand.
    """

    config: TrainConfig
    _: KW_ONLY
    requests: Callable[[], int]  # how often this process was asked to stop
    step: int  # where this attempt begins
    last_step: int  # where the run ends by itself
    begun: bool = field(default=False, init=False)  # a stop was agreed on: nothing more is saved

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + (self.config.time_limit or math.inf)
        self._stop_after = self.step + (self.config.stop_after or math.inf)
        self._end = math.inf

    def asked(self) -> tuple[bool, bool]:
        """Return whether this rank is asked to stop, and whether at once."""
        requests = self.requests()
        return requests > 0 or time.monotonic() > self._deadline, requests > 1

    def why(self, step: int) -> str:
        """Return what stops a run that ends after `step`, as far as this rank knows."""
        if step >= self._stop_after:
            return "by stop_after"
        over = time.monotonic() > self._deadline and not self.requests()
        return "by time_limit" if over else "on request"

    def begins(self, step: int, asking: float) -> bool:
        """Return whether the run is stopped after `step`, and was not before.

        Args:
            step: Steps done.
            asking: Ranks that are asked to stop; the same number on all of them.
        """
        if self.begun or step >= self.last_step:
            return False
        if step >= self._stop_after:
            self._end = step
        elif asking:
            self._end = step + self.config.extra_steps_after_cancel
        else:
            return False
        self.begun = True
        return True

    def over(self, step: int, asking_at_once: float) -> bool:
        """Return whether a run that is being stopped ends after `step`."""
        if not self.begun:
            return False
        return bool(asking_at_once) or step >= min(self._end, self.last_step)
