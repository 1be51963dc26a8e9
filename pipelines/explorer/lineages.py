"""Lineages that stay open for a while: what a first question opens, the next ones find open."""

import contextlib
import threading
import time
from collections.abc import Generator
from pathlib import Path

from assets.lineage.runs import Lineage
from assets.paths import root

FRESH_SECONDS = 20  # after which recipe and runs are looked at again
MOST = 8  # recipes whose lineage is kept

_lock = threading.Lock()
_open: dict[tuple[Path, str], tuple[float, threading.Lock, Lineage]] = {}


@contextlib.contextmanager
def lineage_of(recipe: str) -> Generator[Lineage]:
    """Hold a recipe's lineage, whose files no other thread reads meanwhile.

    Raises:
        ConfigError: there is no such recipe, or it is broken.
    """
    now, key = time.monotonic(), (root(), recipe)
    with _lock:
        known = _open.get(key)
        if known is None or now - known[0] > FRESH_SECONDS:
            known = (now, threading.Lock(), Lineage(recipe))
            _open.pop(key, None)
            _open[key] = known
            for oldest in [*_open][:-MOST]:
                del _open[oldest]
    with known[1]:
        yield known[2]
