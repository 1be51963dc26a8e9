"""Many jobs on an engine that has no word for many: each is started, and ended, by itself."""

import abc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from assets.launcher import JobState, Launch
from olmo_core.run.folder import RunFolder


class OneByOne(abc.ABC):
    """The part of `assets.launcher.Launcher` that is about many jobs, from the part about one."""

    @abc.abstractmethod
    def submit(self, launch: Launch) -> bool:
        """As `Launcher.submit`."""

    @abc.abstractmethod
    def state(self, folder: RunFolder) -> JobState:
        """As `Launcher.state`."""

    @abc.abstractmethod
    def cancel(self, folder: RunFolder) -> None:
        """As `Launcher.cancel`."""

    def submit_many(self, launches: Sequence[Launch]) -> list[Launch]:
        """One after another; returns those that this call started."""
        return [launch for launch in launches if self.submit(launch)]

    def cancel_many(self, folders: Sequence[RunFolder]) -> None:
        """Those that are at work, all at once: each may take seconds."""
        alive = [folder for folder in folders if self.state(folder).alive]
        with ThreadPoolExecutor(max(1, len(alive))) as pool:
            list(pool.map(self.cancel, alive))
