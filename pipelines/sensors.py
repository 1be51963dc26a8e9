"""Sensors: new checkpoints are evaluated as they appear; jobs without a run get one."""

import json

import dagster as dg

from assets.evals.sweep import checkpoints, partitions_name, sweep_names, sweep_work
from assets.execution.partitions import checkpoint_partitions
from assets.graph import Graph
from assets.launcher import EngineError, Launcher, Refused
from assets.paths import root
from olmo_core.errors import ConfigError
from pipelines.instance import close_orphaned_runs
from pipelines.orphans import find_orphans
from pipelines.places import Place
from pipelines.requests import catching_up, sweep_requests
from pipelines.sweep import queue_together, queued

ADOPTS_TAG = "olmo/adopts"  # a run's: the run folder of the job that it was requested for
MOST_ADOPTIONS = 3  # of one submission; runs that keep failing need a person

INTERVAL_SECONDS = 60
MOST_AT_ONCE = 20  # run requests of one tick: a long run's backlog comes in over several


def checkpoint_sensor(graph: Graph) -> dg.SensorDefinition:
    """Return `<recipe>_checkpoints`: a partition and an evaluation per whole checkpoint.

    Where the engine has no queue, one run at a time makes what all of them lack.
    """
    recipe = graph.recipe.name
    partitions = checkpoint_partitions(recipe)

    @dg.sensor(
        name=f"{recipe}_checkpoints",
        asset_selection=[dg.AssetKey([recipe, name]) for name in sweep_names(graph)],
        minimum_interval_seconds=INTERVAL_SECONDS,
        description=f"Evaluates each checkpoint of {recipe}'s runs as it appears.",
    )
    def watch(
        context: dg.SensorEvaluationContext, launcher: dg.ResourceParam[Launcher]
    ) -> dg.SensorResult | dg.SkipReason:
        # Its own memory: a run that trains adds its checkpoints to the partitions too.
        found = checkpoints(graph, root())
        # A checkpoint of the same name is another one when the recipe has changed.
        marks = {key: f"{key} {found.run_of(key)}" for key in found.whole}
        before = set(json.loads(context.cursor or "[]"))
        requested = [mark for mark in marks.values() if mark in before]
        new = {key: mark for key, mark in marks.items() if mark not in before}
        if queued(graph, launcher):
            new = dict([*new.items()][:MOST_AT_ONCE])
        elif run := catching_up(context.instance, recipe):  # what it does not take up is new then
            return dg.SkipReason(f"run {run} makes what all checkpoints lack")
        left = found.left(context.instance.get_dynamic_partitions(partitions_name(recipe)))
        leave = [partitions.build_delete_request(left)] if left else []
        queue_together(graph, launcher, found, new, context.log)
        if not new:
            said = "".join(f"; damaged: {key}: {why}" for key, why in found.damaged.items())
            said = f"no new checkpoint; {len(requested)} have been requested{said}"
            if leave:
                return dg.SensorResult(skip_reason=said, dynamic_partitions_requests=leave)
            return dg.SkipReason(said)
        return dg.SensorResult(
            dynamic_partitions_requests=[partitions.build_add_request([*new]), *leave],
            run_requests=sweep_requests(graph, launcher, new),
            cursor=json.dumps([*requested, *new.values()]),
        )

    return watch


def orphan_sensor(graph: Graph) -> dg.SensorDefinition:
    """Return `<recipe>_orphans`: a job that no run follows gets one, which reports its end.

    Runs that are marked as at work, but whose process is gone, are marked as failed first.
    """
    recipe = graph.recipe.name
    partitions = checkpoint_partitions(recipe)
    assets = [*graph.nodes, *sweep_names(graph)]
    keys = [dg.AssetKey([recipe, name]) for name in assets]

    @dg.sensor(
        name=f"{recipe}_orphans",
        asset_selection=keys,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description=f"Follows each job of {recipe} that has lost its run, or never had one.",
    )
    def adopt(
        context: dg.SensorEvaluationContext, launcher: dg.ResourceParam[Launcher]
    ) -> dg.SensorResult | dg.SkipReason:
        closed = close_orphaned_runs(context.instance)
        if closed:
            context.log.info(f"marked as failed, their process being gone: {', '.join(closed)}")
        try:
            orphans = find_orphans(context.instance, launcher, root(), recipe)
        except EngineError as error:
            return dg.SkipReason(f"not known what is at work: {error}")
        refused = {place: _not_adopted(graph, place, context) for place in orphans.jobs}
        reasons = [f"{place.label}: {why}" for place, why in refused.items() if why]
        adopted = [place for place, why in refused.items() if not why][:MOST_AT_ONCE]
        for reason in reasons:
            context.log.warning(reason)
        if not adopted:
            return dg.SkipReason("; ".join(reasons) or "every job at work is followed by a run")
        new = [*dict.fromkeys(place.partition for place in adopted if place.partition)]
        return dg.SensorResult(
            dynamic_partitions_requests=[partitions.build_add_request(new)] if new else [],
            run_requests=[
                dg.RunRequest(
                    asset_selection=[dg.AssetKey([recipe, place.asset])],
                    partition_key=place.partition,
                    tags={ADOPTS_TAG: _submission(place)},
                )
                for place in adopted
            ],
        )

    return adopt


def _submission(place: Place) -> str:
    """Return which submission of a run folder's job, as a tag of a run has it."""
    claim = place.folder.read(place.folder.claim) or {}
    return f"{claim.get('key', '')}.{claim.get('submission', 0)}"


def _not_adopted(graph: Graph, place: Place, context: dg.SensorEvaluationContext) -> str | None:
    """Return why no run is requested for a job; None if one is."""
    version = _version_now(graph, place)
    if place.folder.path.name.partition(".")[0] != version:
        return (
            f"at work on version {place.folder.path.name}; as the recipe stands now it would be "
            f"{version}, so that no run can follow it"
        )
    tags = {ADOPTS_TAG: _submission(place)}
    tried = context.instance.get_runs_count(dg.RunsFilter(tags=tags))
    if tried >= MOST_ADOPTIONS:
        return f"{tried} runs that were to follow it have ended; see why, then materialise it"
    return None


def _version_now(graph: Graph, place: Place) -> str | None:
    if place.asset in graph.fingerprints:
        return graph.fingerprints[place.asset].version
    try:
        key = place.partition or ""
        return sweep_work(graph, place.asset, key, root()).fingerprint.version
    except (ConfigError, Refused, KeyError):  # no such asset or checkpoint any more
        return None
