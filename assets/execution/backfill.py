"""Many partitions of a sweep's asset in one step, as a backfill in the UI asks for them."""

from collections.abc import Iterable, Sequence

import dagster as dg

from assets.evals.sweep import SWEEP, checkpoints, sweep_node, sweep_work
from assets.execution.produce import AssetBuild, InputMissing, Produced
from assets.execution.step import AssetStep
from assets.execution.together import Together
from assets.graph import Graph
from assets.paths import root
from assets.reporting.report import partition_report
from assets.reporting.tally import Tally
from olmo_core.errors import ConfigError

MOST_NAMED = 20  # of the failed partitions, in the run's own error; the log has each


def backfill(step: AssetStep, tally: Tally, name: str, keys: Sequence[str], *, force: bool) -> None:
    """Make these partitions of the sweep's asset `name`; each is reported as it ends.

    Their jobs are submitted together, and with them those of the sweep's other assets that this
    run makes: the steps of those only follow.

    Raises:
        Failure: partitions have no result; they are named, and the others have been reported.
    """
    graph, node = step.graph, sweep_node(step.graph, name)
    works, refused = _works(graph, name, keys)
    wanted = {**works}
    if not step.forces:
        for other in SWEEP:
            if other not in (name, *step.ahead.begun) and step.makes([graph.recipe.name, other]):
                wanted |= _works(graph, other, keys)[0]
    together = Together(
        root=root(),
        launcher=step.launcher,
        observer=tally,
        meanwhile=step.meanwhile,
        force=force,
        submitted=step.ahead.submitted,
    )
    partition_of = {label(name, key): key for key in keys}
    failed = {partition_of[each]: error for each, error in refused.items()}
    for each, error in refused.items():
        tally.ended(each, error)
    with step.cancelling(*(work.parent for work in wanted.values())):
        step.begin(name)
        together.submit(wanted)
        for each, ended in together.follow(works):
            if isinstance(ended, Produced):
                step.context.log_event(partition_report(node, ended, partition_of[each]))
                tally.ended(each, None)
            else:
                failed[partition_of[each]] = ended
                tally.ended(each, ended)
    if failed:
        raise dg.Failure(_failures(name, failed, len(keys)), allow_retries=False)


def label(name: str, key: str) -> str:
    """What the work on one partition is called."""
    return f"{name} {key}"


def _works(
    graph: Graph, name: str, keys: Iterable[str]
) -> tuple[dict[str, AssetBuild], dict[str, Exception]]:
    """The work on each partition, and why there is none."""
    works: dict[str, AssetBuild] = {}
    refused: dict[str, Exception] = {}
    found = checkpoints(graph, root())
    for key in keys:
        try:
            works[label(name, key)] = sweep_work(graph, name, key, root(), found)
        except (ConfigError, InputMissing) as error:
            refused[label(name, key)] = error
    return works, refused


def _failures(name: str, failed: dict[str, Exception], total: int) -> str:
    """A line a partition; the run's log has what else there is to say."""
    lines = [f"{len(failed)} of {total} partitions have no result; the others are reported:"]
    for key, error in [*failed.items()][:MOST_NAMED]:
        said = str(error).removeprefix(f"{label(name, key)}: ").partition("\n")[0]
        lines.append(f"{key}: {said}")
    if len(failed) > MOST_NAMED:
        lines.append(f"and {len(failed) - MOST_NAMED} more: {', '.join([*failed][MOST_NAMED:])}")
    return "\n".join(lines)
