"""Python's garbage collector between steps, so that no rank pauses while the others wait for it."""

import contextlib
import gc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def collecting(interval: int | None) -> Iterator[Callable[[int], None]]:
    """Collect the younger generations every `interval` steps, and at no other time.

    Args:
        interval: OLMo's `gen1_gc_interval`; None leaves it to Python.

    Yields:
        To be called with the number of steps done after each of them.
    """
    if interval is None:
        yield lambda step: None
        return

    def step_done(step: int) -> None:
        if step % interval == 0:
            gc.collect(1)

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield step_done
    finally:
        if was_enabled:
            gc.enable()
