"""Links from an asset in Dagster's UI to its page in the explorer."""

from collections.abc import Mapping

import dagster as dg

from assets.node import Node
from olmo_core import environment


def explorer_link(node: Node) -> Mapping[str, dg.MetadataValue]:
    """Return the link to an asset's page: of a model or the documents, where an explorer is known.

    It belongs to the definition, not to a materialisation, which outlives the address.
    """
    address = environment.explorer()
    if address is None:
        return {}
    if node.distributed or node.name == "soup":
        return {"explorer": dg.MetadataValue.url(f"{address}/model/{node.recipe}/{node.name}")}
    if node.name == "documents":
        return {"explorer": dg.MetadataValue.url(f"{address}/documents/{node.recipe}")}
    return {}
