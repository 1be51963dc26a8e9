"""Lineages that stay open for a while: what a first question opens, the next ones find open."""

import contextlib
import threading
import time
from collections.abc import Generator

from assets.lineage.runs import Lineage

FRESH_SECONDS = 20  # after which recipe and runs are looked at again
MOST = 8  # recipes whose lineage is kept

_lock = threading.Lock()
_open: dict[str, tuple[float, threading.Lock, Lineage]] = {}


@contextlib.contextmanager
def lineage_of(recipe: str) -> Generator[Lineage]:
    """Hold a recipe's lineage, whose files no other thread reads meanwhile.

    Raises:
        ConfigError: there is no such recipe, or it is broken.
    """
    now = time.monotonic()
    with _lock:
        known = _open.get(recipe)
        if known is None or now - known[0] > FRESH_SECONDS:
            known = (now, threading.Lock(), Lineage(recipe))
            _open.pop(recipe, None)
            _open[recipe] = known
            for name in [*_open][:-MOST]:
                del _open[name]
    with known[1]:
        yield known[2]
