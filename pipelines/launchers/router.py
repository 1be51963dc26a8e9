"""Sends each piece of work to the engine that the site file names for it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from assets.launcher import JobState, Launch, Launcher
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.launchers.kubernetes.launcher import KubernetesLauncher
from pipelines.launchers.local import LocalLauncher
from pipelines.launchers.slurm.launcher import SlurmLauncher
from pipelines.launchers.submission import read_launch
from pipelines.site.file import ResourceSpec, Site, load_site


class Engine(Launcher, Protocol):
    """A launcher that can also say what it would do."""

    def dry_run(self, launch: Launch, work: ResourceSpec) -> str:
        """What a submission would hand over, to the letter: command, batch script or manifests."""
        ...


@dataclass(frozen=True, kw_only=True)
class Router:
    """A launcher over the engines; a job at work stays with the engine that started it."""

    site: Site
    engines: Mapping[str, Engine]

    def submit(self, launch: Launch) -> bool:
        """Start the job on its engine unless it is finished or at work on any."""
        if launch.folder.finished or self.state(launch.folder).alive:
            return False
        engine = self._engine(self.site.work_of(launch).engine)
        return engine.submit(self._informed(launch))

    def submit_many(self, launches: Sequence[Launch]) -> list[Launch]:
        """Start those jobs that are neither finished nor at work; as arrays where there are any.

        Raises:
            EngineError: an engine refuses, or does not answer; what it has taken goes on.
        """
        started: list[Launch] = []
        by_engine: dict[str, list[Launch]] = {}
        for launch in launches:
            if not launch.folder.finished and not self.state(launch.folder).alive:
                engine = self.site.work_of(launch).engine
                by_engine.setdefault(engine, []).append(self._informed(launch))
        for name, group in by_engine.items():
            started += self._engine(name).submit_many(group)
        return started

    def dry_run(self, launch: Launch) -> str:
        """What its engine would be given; starts and writes nothing."""
        work = self.site.work_of(launch)
        return self._engine(work.engine).dry_run(self._informed(launch), work)

    def queues(self, launch: Launch) -> bool:
        """Whether the engine of this work has a queue."""
        return self._engine(self.site.work_of(launch).engine).queues(launch)

    def state(self, folder: RunFolder) -> JobState:
        """What the engine that started the folder's job says of it."""
        return self._started_by(folder).state(folder)

    def cancel(self, folder: RunFolder) -> None:
        """End the folder's job."""
        self._started_by(folder).cancel(folder)

    def cancel_many(self, folders: Sequence[RunFolder]) -> None:
        """End what is at work in these folders, all at once.

        Raises:
            EngineError: of one of the engines, once all have been asked.
        """
        by_engine: dict[str, list[RunFolder]] = {}
        for folder in folders:
            by_engine.setdefault(_started_on(folder), []).append(folder)
        with ThreadPoolExecutor(max(1, len(by_engine))) as pool:
            ends = [
                pool.submit(self._engine(name).cancel_many, group)
                for name, group in by_engine.items()
            ]
        for end in ends:
            end.result()

    def close(self) -> None:
        """Start no further job."""
        for engine in self.engines.values():
            engine.close()

    def _informed(self, launch: Launch) -> Launch:
        """The launch, with what it must know of Dask where it shares its tasks."""
        if not launch.shares_tasks:
            return launch
        return replace(launch, environment={**launch.environment, **self.site.dask.variables})

    def _started_by(self, folder: RunFolder) -> Engine:
        return self._engine(_started_on(folder))

    def _engine(self, name: str) -> Engine:
        if name not in self.engines:
            raise ConfigError(
                f"engine {name}: the site file has no section {name}; add one (docs/launching.md)"
            )
        return self.engines[name]


def _started_on(folder: RunFolder) -> str:
    return str(read_launch(folder).get("engine", "local"))


def site_launcher(site: Site | None = None) -> Router:
    """The launcher of this machine, as its site file says."""
    site = load_site() if site is None else site
    engines: dict[str, Engine] = {"local": LocalLauncher(site=site)}
    if site.kubernetes is not None:
        engines["kubernetes"] = KubernetesLauncher(site=site)
    if site.slurm is not None:
        engines["slurm"] = SlurmLauncher(site=site)
    return Router(site=site, engines=engines)
