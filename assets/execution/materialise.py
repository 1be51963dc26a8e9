"""Dagster's view of the graph: an asset and its checks for each node."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from assets.evals.sweep import checkpoints, partitions_name, sweep_node, sweep_work
from assets.execution.backfill import backfill
from assets.execution.produce import AssetBuild, main_line_work, make
from assets.execution.step import AssetStep
from assets.fingerprint import package_version, sha256_json
from assets.graph import Graph
from assets.launcher import Launcher, Observer
from assets.node import Check, Node
from assets.node_checks import INPUTS_UNCHANGED
from assets.paths import root
from assets.reporting.report import report
from assets.reporting.tally import Tally
from olmo_core.run.code import code_hashes

# What the concurrency pools are named for; a production sets their limits (deploy/dagster.yaml).
GPU_STAGES = ("train", "evals")


ObserverFactory = Callable[[dg.AssetExecutionContext], Observer]


class RunOptions(dg.Config):
    """What a person may say when materialising an asset."""

    force: bool = False  # make a new version although there is a finished one


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What Dagster asks of an asset's step, with the resources for it."""

    context: dg.AssetExecutionContext
    force: bool
    launcher: Launcher
    observer: ObserverFactory  # called in the step: its events belong to that

    def step(self, graph: Graph, observer: Observer) -> AssetStep:
        """The step at work."""
        return AssetStep(
            graph=graph, context=self.context, launcher=self.launcher, observer=observer
        )


Body = Callable[[Asked], Iterator[dg.MaterializeResult[Any]]]


def node_version(node: Node) -> str:
    """Dagster's code version of an asset: its configuration, code and packages."""
    packages = {name: package_version(name) for name in node.packages}
    return sha256_json([node.config, code_hashes(node.module), packages])[:12]


def build_asset(graph: Graph, node: Node) -> dg.AssetsDefinition:
    """The Dagster asset of a node of the main line."""

    def body(asked: Asked) -> Iterator[dg.MaterializeResult[Any]]:
        yield _one(graph, main_line_work(graph, node.name, root()), asked)

    return _asset(graph, node, node.stage, body)


def build_sweep_asset(graph: Graph, name: str) -> dg.AssetsDefinition:
    """The Dagster asset of a sweep: one partition per checkpoint; a backfill is one run."""
    node = sweep_node(graph, name)

    def body(asked: Asked) -> Iterator[dg.MaterializeResult[Any]]:
        if not asked.context.has_partition_key_range:
            yield _one(graph, sweep_work(graph, name, asked.context.partition_key, root()), asked)
            return
        keys = asked.context.partition_keys
        tally = Tally(asked.context, len(keys))
        backfill(asked.step(graph, tally), tally, name, keys, force=asked.force)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # of a backfill's policy
        return _asset(graph, node, "sweep", body, checkpoint_partitions(graph.recipe.name))


def _asset(
    graph: Graph,
    node: Node,
    stage: str,
    body: Body,
    partitions: dg.PartitionsDefinition[str] | None = None,
) -> dg.AssetsDefinition:
    """An asset that resolves, launches or follows, and reports."""

    @dg.asset(
        key=node.key,
        deps=[graph.nodes[name].key for name in node.inputs],
        group_name=f"{node.recipe}_{stage}",
        description=node.description,
        kinds=set(node.kinds),
        code_version=node_version(node),
        partitions_def=partitions,
        backfill_policy=None if partitions is None else dg.BackfillPolicy.single_run(),
        output_required=partitions is None,  # many partitions are reported one by one
        tags={"recipe": node.recipe, "stage": stage},
        pool="gpu" if node.stage in GPU_STAGES else "cpu",
        metadata={"module": node.module},
    )
    def materialise(
        context: dg.AssetExecutionContext,
        config: RunOptions,
        launcher: dg.ResourceParam[Launcher],
        observer: dg.ResourceParam[Any],
    ) -> Iterator[dg.MaterializeResult[Any]]:
        yield from body(
            Asked(context=context, force=config.force, launcher=launcher, observer=observer)
        )

    return materialise


def _one(graph: Graph, work: AssetBuild, asked: Asked) -> dg.MaterializeResult[Any]:
    """One piece of work, found, followed or made in this step."""
    step = asked.step(graph, asked.observer(asked.context))
    with step.cancelling(work.parent):
        step.begin(work.node.name)
        produced = make(
            work,
            root=root(),
            launcher=asked.launcher,
            observer=step.observer,
            force=asked.force,
            submitted=step.ahead.submitted.get(work.node.name),
            meanwhile=step.meanwhile,
        )
    if work.node.distributed:
        _add_partitions(asked.context.instance, graph)
    return report(work.node, produced, work.fingerprint.accepted)


def checkpoint_partitions(recipe: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of a recipe's sweep: the checkpoints of its runs."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(recipe))


def _add_partitions(instance: dg.DagsterInstance, graph: Graph) -> None:
    """Let a person choose the checkpoints of finished runs in the UI, whoever watches for them."""
    name = partitions_name(graph.recipe.name)
    known = set(instance.get_dynamic_partitions(name))
    if new := [key for key in checkpoints(graph, root()) if key not in known]:
        instance.add_dynamic_partitions(name, new)


def build_checks(graph: Graph, node: Node) -> list[dg.AssetChecksDefinition]:
    """The Dagster checks of a node, each a step of its own that can be run again alone."""
    inherited = (INPUTS_UNCHANGED,) if node.inputs else ()
    return [_build_check(graph, node, check) for check in (*inherited, *node.checks)]


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
