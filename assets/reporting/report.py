"""What Dagster is told of a finished run."""

from typing import Any

import dagster as dg

from assets.execution.produce import Produced
from assets.node import Node
from assets.reporting.metadata import metadata
from assets.reporting.plots import loss_curve
from olmo_core.run.accepted import Acceptance
from olmo_core.run.folder import read_metrics

# As Dagster itself tags what a MaterializeResult with a data version leads to.
DATA_VERSION_TAG = "dagster/data_version"
DATA_VERSION_IS_OURS_TAG = "dagster/data_version_is_user_provided"


def report(
    node: Node, produced: Produced, accepted: Acceptance | None = None
) -> dg.MaterializeResult[Any]:
    """The materialisation of a finished run; the fingerprint is Dagster's data version."""
    return dg.MaterializeResult(
        metadata=_details(node, produced, accepted),
        data_version=dg.DataVersion(produced.result["fingerprint"]),
    )


def partition_report(
    node: Node, produced: Produced, partition: str | None
) -> dg.AssetMaterialization:
    """The same of one of the partitions that a step makes, which a result has no field for."""
    return dg.AssetMaterialization(
        asset_key=node.key,
        partition=partition,
        metadata=_details(node, produced),
        tags={
            DATA_VERSION_TAG: produced.result["fingerprint"],
            DATA_VERSION_IS_OURS_TAG: "true",
        },
    )


def _details(node: Node, produced: Produced, accepted: Acceptance | None = None) -> dict[str, Any]:
    plots: dict[str, bytes] = {}
    curve = loss_curve(read_metrics(produced.folder.metrics), f"{node.recipe} / {node.name}")
    if curve is not None:
        plots["loss_curve"] = curve
    return metadata(produced, plots=plots, accepted=accepted)
