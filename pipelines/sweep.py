"""The evaluations that checkpoints lack, queued together: one array where Slurm runs.

`olmo sweep`, the sensor and the schedule queue theirs the same way; the runs that the last two
request only follow.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.evals.sweep import checkpoints, sweep_names, sweep_work
from assets.execution.produce import AssetBuild, launch_of, queues
from assets.graph import Graph
from assets.launcher import EngineError, Launcher, Refused
from assets.paths import root


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """The evaluations that a recipe's checkpoints lack."""

    works: Sequence[AssetBuild]
    finished: int  # that are there
    refused: Mapping[str, str]  # evaluation and checkpoint -> why it cannot be launched

    def waiting(self, launcher: Launcher) -> list[AssetBuild]:
        """Return those whose job would wait in a queue for its turn."""
        return [work for work in self.works if queues(work.node, launcher)]


def lacking(graph: Graph, root: Path, keys: Collection[str]) -> Lacking:
    """Return what is to be launched for these checkpoints to have each evaluation of the sweep."""
    works: list[AssetBuild] = []
    refused: dict[str, str] = {}
    finished = 0
    found = checkpoints(graph, root)
    for key in keys:
        for name in sweep_names(graph):
            try:
                work = sweep_work(graph, name, key, root, found)
                if work.finished() is not None:
                    finished += 1
                else:
                    launch_of(work, root, own_folder=True)  # refuses what cannot be launched
                    works.append(work)
            except Refused as error:
                refused[f"{name} {key}"] = str(error)
    return Lacking(works=works, finished=finished, refused=refused)


def queue_together(
    graph: Graph, launcher: Launcher, keys: Collection[str], log: logging.Logger
) -> list[str]:
    """Queue what these checkpoints lack before the runs that follow it are requested.

    Where the engine has no queue, or does not answer, each run submits its own job. Returns those
    of the checkpoints that lack an evaluation.
    """
    found = lacking(graph, root(), keys)
    incomplete = {work.partition for work in found.works}
    if waiting := found.waiting(launcher):
        try:
            started = launcher.submit([launch_of(work, root()) for work in waiting])
        except EngineError as error:
            log.warning(f"not queued together: {error}")
        else:
            log.info(f"queued {len(started)} evaluations of {len(incomplete)} checkpoints")
    incomplete |= {refused.partition(" ")[2] for refused in found.refused}
    return [key for key in keys if key in incomplete]
