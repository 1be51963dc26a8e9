"""The runs that sensor and schedule request of a sweep: for each checkpoint, or one for all."""

from collections.abc import Mapping

import dagster as dg

from assets.graph import Graph
from assets.launcher import Launcher
from pipelines.instance import close_orphaned_runs
from pipelines.orphans import ACTIVE
from pipelines.sweep import queued

CATCHES_UP_TAG = "olmo/catches_up"  # a run's: the recipe, of whose checkpoints it makes all


def sweep_requests(
    graph: Graph, launcher: Launcher, keys: Mapping[str, str]
) -> list[dg.RunRequest]:
    """Return the runs that evaluate checkpoints: one for each, or without a queue one for all.

    Args:
        graph: The recipe's.
        launcher: Of the site.
        keys: Partition -> the key of its own run, which is not requested twice.
    """
    if queued(graph, launcher):
        return [dg.RunRequest(run_key=own, partition_key=key) for key, own in keys.items()]
    return [dg.RunRequest(tags={CATCHES_UP_TAG: graph.recipe.name})]


def catching_up(instance: dg.DagsterInstance, recipe: str) -> str | None:
    """Return the run, waiting or at work, that makes what all checkpoints lack; None: no such run.

    Runs whose process is gone are marked as failed first.
    """
    close_orphaned_runs(instance)
    asked = dg.RunsFilter(tags={CATCHES_UP_TAG: recipe}, statuses=ACTIVE)
    return next((run.run_id for run in instance.get_runs(asked, limit=1)), None)
