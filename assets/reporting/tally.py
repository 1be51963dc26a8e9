"""Shows in Dagster how many partitions of an asset are how far, while one step makes them all.

One observation for all, however many there are: a partition's own page has its materialisation.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.launcher import JobState
from assets.reporting.observe import Pace
from olmo_core.run.folder import RunFolder


class Tally:
    """Counts what waits, is at work, is made and has failed; observed at a pace."""

    def __init__(self, context: dg.AssetExecutionContext, total: int) -> None:
        self.context = context
        self.total = total
        self.made = 0
        self.failed: dict[str, Exception] = {}
        self.states: dict[str, JobState] = {}  # of jobs that are not over
        self.pace = Pace()

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Log where the work lies and whether this run started it."""
        self.context.log.info(f"{asset}: {how}; {folder.path}")

    def state(self, asset: str, state: JobState) -> None:
        """Observe now and then."""
        self.states[asset] = state
        self._observe_if_due()

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Observe now and then."""
        self.states.setdefault(asset, JobState(alive=True))
        self._observe_if_due()

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Do nothing: the partition's materialisation says it."""

    def ended(self, asset: str, error: Exception | None) -> None:
        """Count one that is over; log why it failed."""
        self.states.pop(asset, None)
        if error is None:
            self.made += 1
        else:
            self.failed[asset] = error
            self.context.log.error(str(error))
        self._observe_if_due()

    def _observe_if_due(self) -> None:
        if self.pace.due:
            self.pace.observe(self.context, self.observed())

    def observed(self) -> dict[str, str]:
        """Return the counts at this moment, as metadata."""
        waiting = [state.description for state in self.states.values() if state.queued]
        parts: list[str] = []
        if running := len(self.states) - len(waiting):
            parts.append(f"{running} at work")
        if waiting:
            parts.append(f"{len(waiting)} waiting ({waiting[0]})")
        failed = {"failed": ", ".join(self.failed)} if self.failed else {}
        return {
            "state": ", ".join(parts) or "at work",
            "progress": f"{self.made} of {self.total} partitions",
            **failed,
        }
