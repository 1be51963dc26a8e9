"""Which data of tasks is not on this machine: asked before a job, and no part of one."""

from collections.abc import Iterable

from olmo_core.errors import InputError
from olmo_core.evals.task_rows import split_paths
from olmo_core.evals.task_sources import DATA


def lacking(data: Iterable[str]) -> list[str]:
    """Return a line for each split of these data sets that is not here; it says how to get it."""
    lines: list[str] = []
    for name in data:
        for split in DATA[name].splits.values():
            try:
                split_paths(split)
            except InputError as error:
                lines.append(f"{name}: {error}")
    return lines
