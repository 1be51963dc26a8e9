"""Submit early what a run will make later, where the engine has a queue.

Steps of a run only wait for jobs, one after another; jobs that need nothing of each other are to
wait in the engine's queue together. So whatever has its inputs is submitted at once, and its own
step follows it when its turn comes.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from assets.execution.follow import Meanwhile, nothing
from assets.execution.produce import REFUSED, launch_of, main_line_work
from assets.execution.whole import shown_by
from assets.graph import Graph
from assets.launcher import EngineUnavailable, Launch, Launcher, Observer
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What one run has submitted before the step that follows it."""

    begun: set[str] = field(default_factory=set[str])  # assets whose own step has come
    submitted: dict[str, RunFolder] = field(default_factory=dict[str, RunFolder])
    finished: set[str] = field(default_factory=set[str])  # of these, as of the last look

    def submit(
        self,
        graph: Graph,
        wanted: Collection[str],
        *,
        root: Path,
        launcher: Launcher,
        observer: Observer,
        meanwhile: Meanwhile = nothing,
    ) -> None:
        """Submit each wanted asset that has its inputs, is not made yet, and can be queued.

        One that is refused is left to its own step, which says why.
        """
        for name, node in graph.nodes.items():
            if name not in wanted or name in self.begun or name in self.submitted:
                continue
            if not _queues(graph, name, launcher) or graph.finished(root, name) is not None:
                continue
            if any(graph.finished(root, entry) is None for entry in node.inputs):
                continue
            try:
                work = main_line_work(graph, name, root)
                launch = launch_of(work, root, progress=shown_by(observer, meanwhile))
                started = launcher.submit([launch])
            except (*REFUSED, EngineUnavailable):
                continue
            if started:
                self.submitted[name] = launch.folder
                observer.started(name, launch.folder, "submitted")

    def new_result(self) -> bool:
        """Whether a job submitted here has finished since this was last asked."""
        now = {name for name, folder in self.submitted.items() if folder.finished}
        new = bool(now - self.finished)
        self.finished.update(now)
        return new


def _queues(graph: Graph, name: str, launcher: Launcher) -> bool:
    """Whether the site sends the asset to an engine with a queue; reads nothing."""
    node = graph.nodes[name]
    identity = {"recipe": node.recipe, "asset": name}
    folder = RunFolder(Path())
    return launcher.queues(
        Launch(folder=folder, module=node.module, stage=node.stage, config={}, identity=identity)
    )
