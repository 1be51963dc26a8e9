"""Bring many remote files to the disk: side by side, resumed where they broke off, verified."""

import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from multiprocessing import TimeoutError as NotYet
from multiprocessing.pool import ThreadPool
from pathlib import Path

from olmo_core.errors import InputError, listed
from olmo_core.remote.partial import on_disk
from olmo_core.remote.storage import Missing, Wait
from olmo_core.remote.transfer import Downloaded, Transfer, Wanted

CONNECTIONS = 16  # one often brings less than a network can
REPORT_SECONDS = 1.0

Progress = Callable[[int, int, str], object]  # bytes that are there, of so many; files, in words


def download_files(
    files: Sequence[Wanted],
    *,
    progress: Progress | None = None,
    connections: int = CONNECTIONS,
    wait: Wait | None = None,
) -> list[Downloaded]:
    """Bring all files; return what there is, in their order. What is there is not fetched again.

    That is a file whose size and time are as they were when it came, and whose digest is the wanted
    one. Where no digest is given, the server is asked whether it has another version, and one that
    tells none sends the file again. Several processes may ask for one file at once: one fetches,
    the others wait.

    Args:
        files: Each with a path of its own; see `olmo_core.remote.cache.cache_path`.
        progress: Called by this thread once a second, and at the end; what it raises ends it all.
        connections: Files that come at one time.
        wait: Called for the seconds between tries; by default it sleeps.

    Raises:
        Missing: files are not there, or not to be read by us (404, 403); all are counted.
        InputError: a server does not answer or does not say how large a file is, there is too
            little space, a path cannot be written, or a file is not what is wanted.
    """
    path, times = Counter(file.path for file in files).most_common(1)[0] if files else (None, 0)
    if times > 1:
        raise InputError(f"{path}: wanted {times} times; expected a path of its own for each file")
    transfers = [Transfer(file, wait=wait) for file in files]
    stop, missing = threading.Event(), list[Missing]()
    # Daemons: a server that does not answer does not keep a process from ending.
    threads = ThreadPool(max(1, min(connections, len(files))))
    try:
        _run(threads, [partial(_look, each, missing) for each in transfers], lambda: None)
        _require_all(missing)
        transfers = [each for each in transfers if each.is_known]
        _require_room(transfers)
        report = partial(_report, transfers, progress)
        _run(threads, [partial(each.bring, stop) for each in transfers], report)
    finally:
        stop.set()
        threads.close()
    return [each.result for each in transfers if each.result is not None]


def _look(transfer: Transfer, missing: list[Missing]) -> None:
    try:
        transfer.look()
    except Missing as error:
        if not transfer.wanted.optional:
            missing.append(error)


def _run(
    threads: ThreadPool, calls: Iterable[Callable[[], None]], report: Callable[[], object]
) -> None:
    """Make all calls, and report once a second and at the end; the first error ends it."""
    results = threads.imap_unordered(_call, calls)
    due = time.monotonic() + REPORT_SECONDS
    while True:
        try:
            results.next(timeout=max(0.0, due - time.monotonic()))
        except NotYet:
            pass
        except StopIteration:
            report()
            return
        # By the clock: small files come faster than this, one after the other.
        if time.monotonic() >= due:
            report()
            due = time.monotonic() + REPORT_SECONDS


def _call(call: Callable[[], None]) -> None:
    call()


def _report(transfers: Sequence[Transfer], progress: Progress | None) -> None:
    if progress is not None:
        done = sum(each.done_bytes for each in transfers)
        total = sum(each.total_bytes for each in transfers)
        whole = sum(each.result is not None for each in transfers)
        progress(done, total, f"{whole} of {len(transfers)} files")


def _require_all(missing: Sequence[Missing]) -> None:
    if len(missing) > 1:
        raise Missing(f"{len(missing)} files are missing: {listed(map(str, missing), '; ')}")
    if missing:
        raise missing[0]


def _require_room(transfers: Sequence[Transfer]) -> None:
    """Make the folders, and refuse to begin what their disks cannot hold."""
    needed: dict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for each in transfers:
        folder = each.wanted.path.parent
        with on_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            device = folder.stat().st_dev
        folders.setdefault(device, folder)
        needed[device] += each.missing_bytes
    for device, folder in folders.items():
        free = shutil.disk_usage(folder).free
        if free < needed[device]:
            raise InputError(
                f"{folder}: {free / 1e6:,.0f} MB are free, and {needed[device] / 1e6:,.0f} MB are "
                "to come; expected room for all of them"
            )
