"""Dagster's view of the graph: an asset and its checks for each node."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from assets.evals.sweep import sweep_node, sweep_work
from assets.fingerprint import package_version, sha256_json
from assets.graph import Graph
from assets.launcher import Launcher
from assets.metadata import metadata
from assets.node import Check, Node
from assets.node_checks import INPUTS_UNCHANGED
from assets.paths import root
from assets.produce import Produced, Work, main_line_work, make
from assets.step import Step
from assets.train.plots import loss_curve
from olmo_core.run.code import code_hashes
from olmo_core.run.folder import read_metrics

# What the concurrency pools are named for; a production sets their limits (deploy/dagster.yaml).
GPU_STAGES = ("train", "evals")


class RunOptions(dg.Config):
    """What a person may say when materialising an asset."""

    force: bool = False  # make a new version although there is a finished one


def node_version(node: Node) -> str:
    """Dagster's code version of an asset: its configuration, code and packages."""
    packages = {name: package_version(name) for name in node.packages}
    return sha256_json([node.config, code_hashes(node.module), packages])[:12]


def build_asset(graph: Graph, node: Node) -> dg.AssetsDefinition:
    """The Dagster asset of a node of the main line."""
    return _asset(graph, node, node.stage, lambda _: main_line_work(graph, node.name, root()))


def build_sweep_asset(graph: Graph, name: str) -> dg.AssetsDefinition:
    """The Dagster asset of a sweep: one partition per checkpoint."""
    return _asset(
        graph,
        sweep_node(graph, name),
        "sweep",
        lambda context: sweep_work(graph, name, context.partition_key, root()),
        checkpoint_partitions(graph.recipe.name),
    )


def _asset(
    graph: Graph,
    node: Node,
    stage: str,
    work_of: Callable[[dg.AssetExecutionContext], Work],
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
        tags={"recipe": node.recipe, "stage": stage},
        pool="gpu" if node.stage in GPU_STAGES else "cpu",
        metadata={"module": node.module},
    )
    def materialise(
        context: dg.AssetExecutionContext,
        config: RunOptions,
        launcher: dg.ResourceParam[Launcher],
        observer: dg.ResourceParam[Any],
    ) -> dg.MaterializeResult[Any]:
        work = work_of(context)
        step = Step(
            graph=graph,
            context=context,
            launcher=launcher,
            observer=observer(context),  # made here: events belong to the step that runs
        )
        with step.cancelling(work.parent):
            step.begin(node.name)
            produced = make(
                work,
                root=root(),
                launcher=launcher,
                observer=step.observer,
                force=config.force,
                submitted=step.ahead.submitted.get(node.name),
                meanwhile=step.meanwhile,
            )
        return report(node, produced)

    return materialise


def checkpoint_partitions(recipe: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of a recipe's sweep: the checkpoints of its runs."""
    return dg.DynamicPartitionsDefinition(name=f"{recipe}_checkpoints")


def report(node: Node, produced: Produced) -> dg.MaterializeResult[Any]:
    """The materialisation of a finished run; the fingerprint is Dagster's data version."""
    plots: dict[str, bytes] = {}
    curve = loss_curve(read_metrics(produced.folder.metrics), f"{node.recipe} / {node.name}")
    if curve is not None:
        plots["loss_curve"] = curve
    return dg.MaterializeResult(
        metadata=metadata(produced, plots=plots),
        data_version=dg.DataVersion(produced.result["fingerprint"]),
    )


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
