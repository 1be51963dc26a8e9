"""Read files once for as long as they are as they were: by modification time, size and inode."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Stamp = tuple[int, int, int] | None

KEPT = 4096  # files whose content is kept


def stamp(path: Path) -> Stamp:
    """Return what tells a file from itself after a change; None while it is not there."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def kept(*names: str, most: int = KEPT) -> Callable[[Callable[[Path], T]], Callable[[Path], T]]:
    """Keep what a function returns of a path until one of its files changes.

    Args:
        names: Of the files, relative to the path; none: the path is the file.
        most: Paths whose values are kept.
    """

    def decorate(read: Callable[[Path], T]) -> Callable[[Path], T]:
        values: OrderedDict[Path, tuple[list[Stamp], T]] = OrderedDict()
        lock = threading.Lock()

        @functools.wraps(read)
        def reading(path: Path) -> T:
            now = [stamp(path / name) for name in names] or [stamp(path)]
            with lock:
                known = values.get(path)
            if known is not None and known[0] == now:
                return known[1]
            value = read(path)  # what is written meanwhile has another stamp, and is read next time
            with lock:
                values[path] = (now, value)
                values.move_to_end(path)
                while len(values) > most:
                    values.popitem(last=False)
            return value

        return reading

    return decorate
