"""Dagster's view of the graph: an asset and its checks for each node."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from assets.evals.regression import MOST_SAID, last_pairs, regressions, scores
from assets.evals.sweep import SWEEP, checkpoints, not_scored, sweep_work
from assets.execution.backfill import backfill, catch_up
from assets.execution.partitions import checkpoint_partitions, renew_partitions
from assets.execution.produce import main_line_work, only
from assets.execution.step import AssetStep
from assets.fingerprint import package_version, sha256_json
from assets.graph import Graph
from assets.launcher import Launcher, Observer
from assets.node import Check, Node, inputs_unchanged
from assets.paths import root
from assets.reporting.code_references import code_references
from assets.reporting.links import explorer_link
from assets.reporting.report import report
from assets.reporting.up_to_date import NAME as UP_TO_DATE
from assets.reporting.up_to_date import just_made, up_to_date_spec
from olmo_core.run.code import code_hashes

# What the concurrency pools are named for; a production sets their limits (deploy/dagster.yaml).
GPU_STAGES = ("train", "evals")

ObserverFactory = Callable[[dg.AssetExecutionContext], Observer]


class RunOptions(dg.Config):
    """What a person may say when materialising an asset."""

    force: bool = False  # make a new version although there is a finished one


def build_asset(graph: Graph, node: Node) -> dg.AssetsDefinition:
    """Return the Dagster asset of a node: it resolves, launches or follows, and reports.

    An asset of the sweep has one partition per checkpoint. A backfill of it is one run, and a run
    without any partition makes what all checkpoints lack.
    """
    recipe, swept = node.recipe, node.name in SWEEP
    stage = "sweep" if swept else node.stage
    packages = {name: package_version(name) for name in node.packages}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # of a backfill's policy

        @dg.asset(
            key=node.key,
            deps=[graph.nodes[name].key for name in node.inputs],
            check_specs=None if swept else [up_to_date_spec(node.key)],
            group_name=f"{recipe}_{stage}",
            description=node.description,
            kinds=set(node.kinds),
            code_version=sha256_json([node.config, code_hashes(node.module), packages])[:12],
            partitions_def=checkpoint_partitions(recipe) if swept else None,
            backfill_policy=dg.BackfillPolicy.single_run() if swept else None,
            output_required=not swept,  # many partitions are reported one by one
            tags={"recipe": recipe, "stage": stage},
            pool="gpu" if node.stage in GPU_STAGES else "cpu",
            metadata={
                "module": node.module,
                **explorer_link(node),
                **code_references(graph.recipe, node),
            },
        )
        def materialise(
            context: dg.AssetExecutionContext,
            config: RunOptions,
            launcher: dg.ResourceParam[Launcher],
            observer: dg.ResourceParam[Any],
        ) -> Iterator[dg.MaterializeResult[Any]]:
            step = AssetStep(
                graph=graph,
                context=context,
                launcher=launcher,
                observer=observer(context),
                force=config.force,
            )
            if swept and context.has_partition_key_range:
                backfill(step, node)
            elif swept and not context.has_partition_key:
                catch_up(step, node)
            else:
                yield _make_one(step, node)

    return materialise


def _make_one(step: AssetStep, node: Node) -> dg.MaterializeResult[Any]:
    """Find, follow or make the asset in this step, or one partition of it."""
    if node.name in SWEEP:
        work = sweep_work(step.graph, node.name, step.context.partition_key, root())
    else:
        work = main_line_work(step.graph, node.name, root())
    with step.at_work(node.name, [work]):
        produced = only(step.maker.make({node.name: work}))
    if node.distributed:  # its checkpoints can be chosen in the UI, whoever watches for them
        found = checkpoints(step.graph, root())
        renew_partitions(step.context.instance, node.recipe, found, found.whole)
    checked = [] if node.name in SWEEP else [just_made()]
    return report(node, produced, work.fingerprint.accepted, checked)


def build_sweep_check(graph: Graph, name: str) -> dg.AssetChecksDefinition:
    """Return the check of a sweep asset: over all its checkpoints, whatever partition was made."""

    @dg.asset_check(
        asset=dg.AssetKey([graph.recipe.name, name]),
        name="every_checkpoint_on_every_task",
        description="Each checkpoint that has been evaluated has been scored on every task.",
        blocking=False,
    )
    def evaluate() -> dg.AssetCheckResult:
        found = checkpoints(graph, root())
        runs = {key: sweep_work(graph, name, key, root(), found).finished() for key in found.whole}
        whys = {key: not_scored(run) for key, run in runs.items() if run is not None}
        lacking = {key: why for key, why in whys.items() if why}
        said = [f"{key}: {'; '.join(why)}" for key, why in lacking.items()]
        return dg.AssetCheckResult(
            passed=not lacking,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"not scored: {'; '.join(said)}"
            if said
            else f"checkpoints evaluated: {len(whys)}",
            metadata={"checkpoints_not_scored": len(lacking)},
        )

    return evaluate


def build_regression_check(graph: Graph, name: str) -> dg.AssetChecksDefinition:
    """Return the check of a sweep asset: no checkpoint is worse than the one before it."""

    @dg.asset_check(
        asset=dg.AssetKey([graph.recipe.name, name]),
        name="no_regression",
        description="No checkpoint is worse than the one before it, beyond chance and seeds.",
        blocking=False,
    )
    def evaluate() -> dg.AssetCheckResult:
        known = scores(graph, root())
        pairs = last_pairs(known, name)
        lines = regressions(pairs)
        count = sum(len(pair.figures) for pair in pairs)
        skipped = sum(len(pair.not_compared) for pair in pairs)
        unpaired = sum(len(of) for pair in pairs for of in pair.not_paired.values())
        more = f"; and {len(lines) - MOST_SAID} earlier pairs" if len(lines) > MOST_SAID else ""
        said = "; ".join(lines[:MOST_SAID]) + more
        none = f"{count} figures of {len(pairs)} pairs of checkpoints: none became worse"
        none += f"; {unpaired} by standard errors alone" if unpaired else ""
        none += f"; {skipped} were not compared (olmo compare says why)" if skipped else ""
        left_out = "".join(f"; not compared: {why}" for why in known.damaged)
        return dg.AssetCheckResult(
            passed=not (lines or known.damaged),
            severity=dg.AssetCheckSeverity.WARN,
            # Of a failure no counts: an alert is sent again when it says something else.
            description=(said or none) + left_out,
            metadata={
                "figures_compared": count,
                "figures_of_standard_errors": unpaired,
                "figures_not_compared": skipped,
                "pairs_that_became_worse": len(lines),
            },
        )

    return evaluate


def build_checks(graph: Graph, node: Node) -> list[dg.AssetChecksDefinition]:
    """Return the Dagster checks of a node, each a step of its own that can be run again alone."""
    return [_build_check(graph, node, check) for check in _checks(node)]


def check_keys(node: Node) -> list[dg.AssetCheckKey]:
    """Return the keys of the checks that a run evaluates which makes the node of the main line."""
    names = [UP_TO_DATE, *(check.name for check in _checks(node))]
    return [dg.AssetCheckKey(dg.AssetKey(node.key), name) for name in names]


def _checks(node: Node) -> tuple[Check, ...]:
    return (*((inputs_unchanged,) if node.inputs else ()), *node.checks)


def _build_check(graph: Graph, node: Node, check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(node.key),
        name=check.name,
        description=check.description,
        blocking=check.blocking,
    )
    def evaluate() -> dg.AssetCheckResult:
        finished = graph.finished_asset(root(), node.name)
        if finished is None:
            return dg.AssetCheckResult(
                passed=False,
                description=f"{node.name} has not been made as recipe {node.recipe} stands now",
            )
        verdict = check.evaluate(finished)
        return dg.AssetCheckResult(
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
            description=verdict.description,
            metadata=dict(verdict.figures),
        )

    return evaluate
