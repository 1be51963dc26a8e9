"""Sends each piece of work to the engine that the site file names for it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from assets.launcher import EngineError, JobState, Launch, Launcher
from olmo_core.errors import ConfigError
from olmo_core.forecast.figures import Forecast
from olmo_core.forecast.job import to_record
from olmo_core.run.folder import RunFolder
from pipelines.launchers.forecast import forecast_launches, require_within_budget
from pipelines.launchers.kubernetes.launcher import KubernetesLauncher
from pipelines.launchers.local import LocalLauncher
from pipelines.launchers.slurm.launcher import SlurmLauncher
from pipelines.launchers.submission import read_launch
from pipelines.site.file import Site, load_site
from pipelines.site.place import place_of


@dataclass(kw_only=True)
class Router:
    """A launcher over the engines; a job at work stays with the engine that started it."""

    site: Site
    engines: Mapping[str, Launcher]
    _closed: bool = field(default=False, repr=False)

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        """Start each job on its engine unless it is finished or at work on any.

        Raises:
            EngineError: an engine refuses, or does not answer, or `close` has been called; what
                has been accepted goes on.
            Refused: the jobs would exceed their recipe's budget; none has been started.
        """
        groups: dict[str, list[Launch]] = defaultdict(list)
        for launch in self._forecast([launch for launch in launches if self._is_new(launch)]):
            groups[self.site.work_of(launch).engine].append(self._informed(launch))
        started: list[Launch] = []
        for name, group in groups.items():
            if self._closed:
                folder = group[0].folder.path
                raise EngineError(f"{folder}: not started, since the run was cancelled")
            started += self._engine(name).submit(group)
        return started

    def dry_run(self, launch: Launch) -> str:
        """Return what the launch's engine would be given; starts and writes nothing."""
        return self._engine(self.site.work_of(launch).engine).dry_run(self._informed(launch))

    def queues(self, launch: Launch) -> bool:
        """Return whether the engine of this work has a queue."""
        return self._engine(self.site.work_of(launch).engine).queues(launch)

    def state(self, folder: RunFolder) -> JobState:
        """Return what the engine that started the folder's job says of it."""
        return self._engine(_started_on(folder)).state(folder)

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        """End what is at work in these folders, all at once.

        Raises:
            EngineError: one of the engines failed, once all have been asked.
        """
        groups: dict[str, list[RunFolder]] = defaultdict(list)
        for folder in folders:
            groups[_started_on(folder)].append(folder)
        with ThreadPoolExecutor(max(1, len(groups))) as pool:
            ends = [pool.submit(self._engine(name).cancel, group) for name, group in groups.items()]
        for end in ends:
            end.result()

    def close(self) -> None:
        """Refuse what is submitted from now on; a submission under way, and jobs at work, go on."""
        self._closed = True

    def _is_new(self, launch: Launch) -> bool:
        return not launch.folder.finished and not self.state(launch.folder).alive

    def _forecast(self, launches: Sequence[Launch]) -> list[Launch]:
        """Return the launches with what each will take, if their recipes' budgets allow it."""
        made = [*zip(launches, forecast_launches(launches, self.site), strict=True)]
        recipes: dict[str, list[Forecast]] = defaultdict(list)
        for launch, forecast in made:
            if forecast is not None:
                recipes[launch.names[0]].append(forecast)
        for recipe, forecasts in recipes.items():
            require_within_budget(recipe, forecasts, self.site, lambda run: self.state(run).alive)
        return [
            replace(launch, forecast=to_record(forecast, place_of(self.site, launch)))
            if forecast is not None
            else launch
            for launch, forecast in made
        ]

    def _informed(self, launch: Launch) -> Launch:
        """Return the launch with what it must know of Dask if it shares its tasks."""
        if not launch.shares_tasks:
            return launch
        return replace(launch, environment={**launch.environment, **self.site.dask.variables})

    def _engine(self, name: str) -> Launcher:
        if name not in self.engines:
            raise ConfigError(
                f"engine {name}: the site file has no section {name}; add one (docs/launching.md)"
            )
        return self.engines[name]


def _started_on(folder: RunFolder) -> str:
    return str(read_launch(folder).get("engine", "local"))


def site_launcher(site: Site | None = None) -> Router:
    """Return the launcher of this machine, as its site file says."""
    site = load_site() if site is None else site
    engines: dict[str, Launcher] = {"local": LocalLauncher(site=site)}
    if site.kubernetes is not None:
        engines["kubernetes"] = KubernetesLauncher(site=site)
    if site.slurm is not None:
        engines["slurm"] = SlurmLauncher(site=site)
    return Router(site=site, engines=engines)
