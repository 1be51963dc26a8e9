"""The evaluations that checkpoints lack, queued together: one array where Slurm runs.

`olmo sweep`, the sensor and the schedule queue theirs the same way; the runs that the last two
request only follow. Where the engine has no queue they request one run, which makes one after
another what all checkpoints lack.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.evals.sweep import (
    SWEEP,
    SweptCheckpoints,
    not_scored,
    sweep_names,
    sweep_node,
    sweep_work,
)
from assets.execution.hold import results_held
from assets.execution.produce import AssetBuild, launch_of, queues, ready_inputs
from assets.graph import Graph
from assets.launcher import EngineError, Launcher, Refused
from assets.paths import root
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError


def wanted_assets(graph: Graph, evaluations: Sequence[str], runs: Sequence[str]) -> list[str]:
    """Return the sweep's assets of these evaluations, of all if none is named.

    Raises:
        ConfigError: the recipe has no such evaluation, or no such training.
    """
    trainings = [name for name, node in graph.nodes.items() if node.distributed]
    swept_by = {SWEEP[name]: name for name in sweep_names(graph)}
    for option, names, known in (
        ("--models", runs, trainings),
        ("--select", evaluations, [*swept_by]),
    ):
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"{option} {unknown[0]}: unknown; {nearest(unknown[0], known)}")
    return [swept_by[evaluation] for evaluation in evaluations or swept_by]


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """The evaluations that a recipe's checkpoints lack."""

    works: Sequence[AssetBuild]
    swept: SweptCheckpoints  # as they were found
    checkpoints: int  # that are whole, or were asked for
    finished: int  # evaluations that are there
    refused: Mapping[str, str]  # evaluation and checkpoint -> why it cannot be launched
    not_scored: Mapping[str, Sequence[str]]  # the same of finished ones -> which tasks, and why

    def waiting(self, launcher: Launcher) -> list[AssetBuild]:
        """Return those whose job would wait in a queue for its turn."""
        return [work for work in self.works if queues(work.node, launcher)]

    def without_queue(self, launcher: Launcher) -> list[AssetBuild]:
        """Return those whose job would start at once, all of them beside each other."""
        return [work for work in self.works if not queues(work.node, launcher)]


def lacking(
    graph: Graph,
    root: Path,
    found: SweptCheckpoints,
    keys: Collection[str] | None = None,
    names: Sequence[str] | None = None,
) -> Lacking:
    """Return what is to be launched for checkpoints to have each evaluation of the sweep.

    Args:
        graph: The recipe's.
        root: The folder of all results.
        found: What `checkpoints` says.
        keys: Those that are wanted; None: all that are whole.
        names: Assets of the sweep that are wanted; None: all.
    """
    works: list[AssetBuild] = []
    refused: dict[str, str] = {}
    incomplete: dict[str, list[str]] = {}
    finished = 0
    asked = found.whole if keys is None else keys
    for key in asked:
        for name in sweep_names(graph) if names is None else names:
            try:
                work = sweep_work(graph, name, key, root, found)
                if (run := work.finished()) is not None:
                    finished += 1
                    if whys := not_scored(run):
                        incomplete[f"{name} {key}"] = whys
                else:
                    ready_inputs(work)  # refuses what cannot be launched
                    works.append(work)
            except Refused as error:
                refused[f"{name} {key}"] = str(error)
    return Lacking(
        works=works,
        swept=found,
        checkpoints=len(asked),
        finished=finished,
        refused=refused,
        not_scored=incomplete,
    )


def queue_together(
    graph: Graph,
    launcher: Launcher,
    found: SweptCheckpoints,
    keys: Collection[str],
    log: logging.Logger,
) -> list[str]:
    """Queue what these checkpoints lack before the runs that follow it are requested.

    Where the engine has no queue, or does not answer, each run submits its own job. Damaged
    checkpoints are named in the log. Returns those of the keys that lack an evaluation.
    """
    for key, why in found.damaged.items():
        log.warning(f"not evaluated: {key}: {why}")
    lacks = lacking(graph, root(), found, keys)
    incomplete = {work.partition for work in lacks.works}
    if waiting := lacks.waiting(launcher):
        try:
            with results_held(root()):
                started = launcher.submit([launch_of(work, root()) for work in waiting])
        except EngineError as error:
            log.warning(f"not queued together: {error}")
        else:
            log.info(f"queued {len(started)} evaluations of {len(incomplete)} checkpoints")
    incomplete |= {refused.partition(" ")[2] for refused in lacks.refused}
    return [key for key in keys if key in incomplete]


def queued(graph: Graph, launcher: Launcher) -> bool:
    """Return whether every evaluation of the sweep would wait in a queue."""
    return all(queues(sweep_node(graph, name), launcher) for name in sweep_names(graph))
