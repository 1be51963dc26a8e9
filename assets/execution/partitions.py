"""The partitions of a recipe's sweep in Dagster: the checkpoints of its runs."""

from collections.abc import Iterable

import dagster as dg

from assets.evals.sweep import SweptCheckpoints, partitions_name


def checkpoint_partitions(recipe: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a recipe's sweep: the checkpoints of its runs."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(recipe))


def renew_partitions(
    instance: dg.DagsterInstance, recipe: str, found: SweptCheckpoints, keys: Iterable[str]
) -> None:
    """Add checkpoints to the partitions of a recipe's sweep.

    Those of an earlier version of the recipe leave, so that no backfill asks for them any more.
    """
    name = partitions_name(recipe)
    for key in found.left(instance.get_dynamic_partitions(name)):
        instance.delete_dynamic_partition(name, key)
    instance.add_dynamic_partitions(name, [*keys])
