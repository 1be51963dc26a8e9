"""Many partitions of a sweep's asset in one step, as a backfill in the UI asks for them."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import dagster as dg

from assets.evals.sweep import checkpoints, sweep_names, sweep_work
from assets.execution.produce import AssetBuild, Produced
from assets.execution.step import AssetStep
from assets.graph import Graph
from assets.launcher import Refused
from assets.node import Node
from assets.paths import root
from assets.reporting.observe import Tally
from assets.reporting.report import partition_report
from olmo_core.errors import ConfigError

MOST_NAMED = 20  # of the failed partitions, in the run's own error; the log has each


def backfill(step: AssetStep, node: Node) -> None:
    """Make the step's partitions of an asset of the sweep; each is reported as it ends.

    Their jobs are submitted together, and with them those of the sweep's other assets that this
    run makes: the steps of those only follow.

    Raises:
        Failure: partitions have no result; they are named, and the others have been reported.
    """
    graph, name, keys = step.graph, node.name, step.context.partition_keys
    tally = Tally(step.context, len(keys))
    step = replace(step, observer=tally)
    works, refused = _works(graph, name, keys)
    further: dict[str, AssetBuild] = {}
    if not step.forces:
        for other in sweep_names(graph):
            if other not in (name, *step.ahead.begun) and step.makes([graph.recipe.name, other]):
                further |= _works(graph, other, keys)[0]
    with step.at_work(name, [*works.values(), *further.values()]):
        for each, ended in itertools.chain(refused.items(), step.maker.make(works, further)):
            if isinstance(ended, Produced):
                step.context.log_event(partition_report(node, ended, works[each].partition))
                tally.ended(each, None)
            else:
                tally.ended(each, ended)
    if tally.failed:
        raise dg.Failure(_failures(name, tally), allow_retries=False)


def _works(
    graph: Graph, name: str, keys: Iterable[str]
) -> tuple[dict[str, AssetBuild], dict[str, Exception]]:
    """Return the work on each partition, and why there is none, by asset and partition."""
    works: dict[str, AssetBuild] = {}
    refused: dict[str, Exception] = {}
    found = checkpoints(graph, root())
    for key in keys:
        try:
            works[f"{name} {key}"] = sweep_work(graph, name, key, root(), found)
        except (ConfigError, Refused) as error:
            refused[f"{name} {key}"] = error
    return works, refused


def _failures(name: str, tally: Tally) -> str:
    """Return one line per partition; the run's log has what else there is to say."""
    failed = {each.removeprefix(f"{name} "): error for each, error in tally.failed.items()}
    lines = [f"{len(failed)} of {tally.total} partitions have no result; the others are reported:"]
    for key, error in [*failed.items()][:MOST_NAMED]:
        said = str(error).removeprefix(f"{name} {key}: ").partition("\n")[0]
        lines.append(f"{key}: {said}")
    if len(failed) > MOST_NAMED:
        lines.append(f"and {len(failed) - MOST_NAMED} more: {', '.join([*failed][MOST_NAMED:])}")
    return "\n".join(lines)
