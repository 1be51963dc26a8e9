"""Begin with an empty folder: what an earlier attempt left is removed, once nobody writes there."""

import contextlib
import shutil
import time
import uuid

from olmo_core.errors import AlreadyRunning
from olmo_core.run.folder import CONTRACT_FOLDERS, RunFolder, is_contract_file, locked

STALE_SECONDS = 120.0  # a file system may hold a dead node's lock for a while
LOOK_SECONDS = 0.1


def remove_earlier_attempt(folder: RunFolder) -> None:
    """Remove all but the contract: nothing half-made may be taken for this attempt's output.

    Raises:
        AlreadyRunning: a worker still does a call of an earlier attempt, after two minutes.
    """
    with contextlib.ExitStack() as stack:
        if folder.calls_lock.exists():  # there were workers
            _end_calls(folder)
            deadline = time.monotonic() + STALE_SECONDS
            while not stack.enter_context(locked(folder.calls_lock, wait=False)):
                if time.monotonic() > deadline:
                    raise AlreadyRunning(
                        f"{folder.calls_lock}: held for {STALE_SECONDS:.0f} s by a worker of an "
                        "earlier attempt; its log stands beside the job's in log/"
                    )
                time.sleep(LOOK_SECONDS)
        for entry in folder.path.iterdir():
            if entry.is_dir() and (entry.name == "work" or entry.name not in CONTRACT_FOLDERS):
                shutil.rmtree(entry)
            elif entry.is_file() and not is_contract_file(entry.name):
                entry.unlink()


def _end_calls(folder: RunFolder) -> None:
    """Take the calls away at once: workers see it, and end what they are at."""
    calls = folder.path / "work" / "calls"
    with contextlib.suppress(FileNotFoundError):
        calls.rename(calls.with_name(f"calls.{uuid.uuid4().hex}"))
