"""Make many pieces of work at once: submitted together where there is a queue, each ends by itself.

Where the engine has no queue they are made one after another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assets.execution.follow import (
    Following,
    JobFailed,
    Meanwhile,
    follow_all,
    submit_patiently,
)
from assets.execution.produce import (
    REFUSED,
    AssetBuild,
    Produced,
    again,
    launch_of,
    make,
    produced,
)
from assets.execution.whole import shown_by
from assets.launcher import Launch, Launcher, Observer
from olmo_core.run.folder import RunFolder

Ended = Produced | RuntimeError  # a RuntimeError says why there is no result


@dataclass(kw_only=True)
class Together:
    """Work of one step, by name, on its way.

    `submitted` is what this run has submitted before, of any step: it is followed, and not
    submitted again if it has failed. What is submitted here is added to it.
    """

    root: Path
    launcher: Launcher
    observer: Observer
    meanwhile: Meanwhile
    force: bool
    submitted: dict[str, RunFolder]
    _ended: dict[str, Ended] = field(default_factory=dict[str, Ended], repr=False)
    _queued: dict[str, RunFolder] = field(default_factory=dict[str, RunFolder], repr=False)
    _alone: dict[str, AssetBuild] = field(default_factory=dict[str, AssetBuild], repr=False)
    _works: dict[str, AssetBuild] = field(default_factory=dict[str, AssetBuild], repr=False)
    _launched: set[str] = field(default_factory=set[str], repr=False)

    def submit(self, works: Mapping[str, AssetBuild]) -> None:
        """Submit what is not finished yet; what cannot be launched ends here.

        Raises:
            EngineError: the engine refuses the jobs, or has not answered for ten minutes.
        """
        self._works.update(works)
        launches: dict[str, Launch] = {}
        progress = shown_by(self.observer, self.meanwhile)
        for name, work in works.items():
            if name in self.submitted:
                self._queued[name] = self.submitted[name]
                continue
            try:
                finished = None if self.force else work.finished()
                if finished is not None:
                    self._ended[name] = again(work, finished, self.root, self.observer, progress)
                    continue
                launch = launch_of(work, self.root, own_folder=self.force, progress=progress)
            except REFUSED as error:
                self._ended[name] = error
                continue
            if self.launcher.queues(launch):
                launches[name] = launch
            else:
                self._alone[name] = work
        if launches:
            started = submit_patiently(self.launcher, launches, self.observer, self.meanwhile)
            paths = {launch.folder.path for launch in started}
            for name, launch in launches.items():
                self._queued[name] = launch.folder
                if launch.folder.path in paths:
                    self._launched.add(name)
                    self.submitted[name] = launch.folder

    def follow(self, names: Mapping[str, object]) -> Iterator[tuple[str, Ended]]:
        """Those of these names that were given to `submit`, each as it ends."""
        for name in [name for name in names if name in self._ended]:
            yield name, self._ended.pop(name)
        for name in [name for name in names if name in self._alone]:
            yield name, self._made_alone(name)
        folders = {name: self._queued[name] for name in names if name in self._queued}
        hows = {name: "launched" if name in self._launched else "following" for name in folders}
        for name, folder in folders.items():
            self.observer.started(name, folder, hows[name])
        jobs = {
            name: Following(
                name=name, folder=folder, launcher=self.launcher, observer=self.observer
            )
            for name, folder in folders.items()
        }
        for name, ended in follow_all(jobs, self.meanwhile):
            if isinstance(ended, JobFailed):
                yield name, ended
            else:
                work = self._works[name]
                yield name, produced(work, folders[name], self.root, ended, hows[name])

    def _made_alone(self, name: str) -> Ended:
        try:
            return make(
                self._alone.pop(name),
                root=self.root,
                launcher=self.launcher,
                observer=self.observer,
                force=self.force,
                meanwhile=self.meanwhile,
            )
        except (*REFUSED, JobFailed) as error:
            return error
