"""Many partitions of a sweep's asset in one step: those that a backfill asks for, or all there are.

Each is reported as it ends, and one that fails stops none of the others.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import dagster as dg

from assets.evals.sweep import SweptCheckpoints, checkpoints, sweep_names, sweep_work
from assets.execution.partitions import renew_partitions
from assets.execution.produce import AssetBuild, Made, Produced
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
    """Make the step's partitions of an asset of the sweep.

    Their jobs are submitted together, and with them those of the sweep's other assets that this
    run makes: the steps of those only follow.

    Raises:
        Failure: partitions have no result; they are named, and the others have been reported.
    """
    graph, name, keys = step.graph, node.name, step.context.partition_keys
    tally = Tally(step.asset_context, len(keys))
    step = replace(step, observer=tally)
    found = checkpoints(graph, root())
    works, refused = _works(graph, name, keys, found)
    further: dict[str, AssetBuild] = {}
    if not step.forces:
        for other in sweep_names(graph):
            if other not in (name, *step.ahead.begun) and step.makes([graph.recipe.name, other]):
                further |= _works(graph, other, keys, found)[0]
    with step.at_work(name, [*works.values(), *further.values()]):
        _report(node, works, refused, step.maker.make(works, further), tally)
    _raise_failures(name, tally)


def catch_up(step: AssetStep, node: Node) -> None:
    """Make what all checkpoints lack of an asset of the sweep, in a run without any partition.

    When that is made, those are taken up that have appeared meanwhile, again and again until there
    is none. What is finished and was never reported, by `olmo sweep` for instance, is reported. Of
    a checkpoint that has been reported, a newer version that `olmo sweep` has made is not.

    Raises:
        Failure: as `backfill`; what is damaged is in the log, as the sensor has it in its ticks.
    """
    tally = Tally(step.asset_context, 0)
    step = replace(step, observer=tally)
    met: dict[str, AssetBuild] = {}
    refused: dict[str, Exception] = {}
    with step.at_work(node.name, met.values()):  # as it stands when the run is cancelled
        while True:
            works, newly_refused = _unreported(step, node, without={*met, *refused})
            if not works and not newly_refused:
                break
            met |= works
            refused |= newly_refused
            tally.total = len(met) + len(refused)
            _report(node, works, newly_refused, step.maker.make(works), tally)
    _raise_failures(node.name, tally)


def _unreported(
    step: AssetStep, node: Node, without: set[str]
) -> tuple[dict[str, AssetBuild], dict[str, Exception]]:
    """Return `_works` of checkpoints that lack a result or, in Dagster, its report.

    They are partitions then.
    """
    context, found = step.asset_context, checkpoints(step.graph, root())
    renew_partitions(context.instance, node.recipe, found, found.whole)
    reported = context.instance.get_materialized_partitions(context.asset_key)
    keys = [key for key in found.whole if f"{node.name} {key}" not in without]
    works, refused = _works(step.graph, node.name, keys, found)
    if not without:
        for key, why in found.damaged.items():
            context.log.warning(f"not evaluated: {key}: {why}")
    lacking = {
        each: work
        for each, work in works.items()
        if step.force or work.partition not in reported or work.finished() is None
    }
    return lacking, refused


def _report(
    node: Node,
    works: Mapping[str, AssetBuild],
    refused: Mapping[str, Exception],
    made: Made,
    tally: Tally,
) -> None:
    """Report each partition as it ends."""
    for each, ended in itertools.chain(refused.items(), made):
        if isinstance(ended, Produced):
            tally.context.log_event(partition_report(node, ended, works[each].partition))
            tally.ended(each, None)
        else:
            tally.ended(each, ended)


def _raise_failures(name: str, tally: Tally) -> None:
    if tally.failed:
        raise dg.Failure(_failures(name, tally), allow_retries=False)


def _works(
    graph: Graph, name: str, keys: Iterable[str], found: SweptCheckpoints
) -> tuple[dict[str, AssetBuild], dict[str, Exception]]:
    """Return the work on each partition, and why there is none, by asset and partition."""
    works: dict[str, AssetBuild] = {}
    refused: dict[str, Exception] = {}
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
