"""Which rank is slower than the others, in work that waits for none of them."""

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import torch


class LossTime:
    """Measure how long a rank takes for the losses of its microbatches.

    All ranks do the same work there (but a CPU passes over masked labels), and no collective lies
    in it: a slow GPU or core takes longer, while its peers wait elsewhere. Of a GPU's times only
    those that have passed are read, so that the host waits for none.
    """

    def __init__(self, device: torch.device) -> None:
        self._mark = _Instant if device.type == "cpu" else _recorded_event
        self._spans: deque[tuple[Any, Any]] = deque()  # of what `_mark` returns

    @contextlib.contextmanager
    def measured(self) -> Generator[None]:
        """Measure the block."""
        begin = self._mark()
        yield
        self._spans.append((begin, self._mark()))

    def mean_seconds(self) -> float:
        """Return the mean of the finished blocks that have not been told yet, or 0."""
        found: list[float] = []
        while self._spans and self._spans[0][1].query():
            begin, end = self._spans.popleft()
            found.append(begin.elapsed_time(end) / 1000)
        return statistics.fmean(found) if found else 0.0


class _Instant:
    """A moment of the host's clock, as a GPU's event is one of its stream."""

    def __init__(self) -> None:
        self.seconds = time.perf_counter()

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: "_Instant") -> float:
        return 1000 * (end.seconds - self.seconds)


def _recorded_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def straggler_metrics(seconds: Sequence[float]) -> dict[str, float]:
    """Return the rank that took longest for a loss, and how much longer than the median rank.

    Of an even number of ranks that is the faster of the two in the middle.

    Nothing for one rank alone, or while not all have told.
    """
    if not (seconds and all(seconds)):
        return {}
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    above = seconds[slowest] / statistics.median_low(seconds) - 1
    return {
        "throughput/slowest_rank": slowest,
        "throughput/slowest_rank/above median (%)": round(100 * above, 2),
    }
