"""Whether a job goes on: from its heartbeat and its progress, by the watcher's own clock."""

import time
from typing import Any

from olmo_core.run.folder import RunFolder


class HangDetector:
    """What one attempt's status.json says, and since when it says so.

    Only that a value has changed counts, never the time it holds: clocks of nodes differ.

    Args:
        folder: The run's.
        attempt: Whose status is meant; that of an earlier one is not there.
        stall_timeout_seconds: How long a job may go without progress, or without a heartbeat,
            before it counts as hung; None: for ever. Starting is time without progress too.
        ranks: Several processes of which one that waits for another may compute all the same. One
            alone, which computes, is at work: not every job knows how far it is.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, stall_timeout_seconds: float | None, *, ranks: bool
    ) -> None:
        self._folder, self._attempt, self._timeout_seconds = folder, attempt, stall_timeout_seconds
        self._seen: dict[str, Any] = {"heartbeat": None, "progressed": None, "busy": None}
        self._progress = ("progressed",) if ranks else ("progressed", "busy")
        now = time.monotonic()
        self._since = {name: now for name in self._seen}
        self.step: int | None = None
        self.has_progressed = False

    def look(self) -> None:
        """Take in what status.json says now."""
        status = self._folder.read_status()
        if status is None or status.get("attempt") != self._attempt:
            return
        for name, before in self._seen.items():
            if status.get(name) != before:
                self._seen[name] = status.get(name)
                self._since[name] = time.monotonic()
        self.has_progressed = status.get("progressed") is not None
        self.step = status.get("step")

    def hang(self) -> str:
        """What says that the job hangs; empty while nothing does."""
        self.look()
        if self._timeout_seconds is None:
            return ""
        now = time.monotonic()
        for names, what in ((("heartbeat",), "no heartbeat"), (self._progress, "no progress")):
            seconds = now - max(self._since[name] for name in names)
            if seconds > self._timeout_seconds:
                return f"{what} for {seconds:.0f} s"
        return ""
