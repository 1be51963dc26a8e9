"""What holds documents or has seen them, as a person is shown it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from assets.paths import root
from assets.takedown.records import Record, is_shared

# It holds text of them, or tokens; it names them, by ids, digests or places; it was made of them.
Holds = Literal["text", "names", "saw"]

GROUPS = ("sources", "corpus", "training", "checkpoints", "models", "evaluations", "elsewhere")


@dataclass(frozen=True, kw_only=True)
class Affected:
    """A place that holds documents which must leave, or was made from them."""

    group: str  # of GROUPS
    place: str  # path, or words where it is none
    holds: Holds
    documents: int  # of those that must leave; 0: it was made of what saw them
    what: str
    do: str
    record: Record | None = None  # of a run folder
    figures: Mapping[str, int] = field(default_factory=dict[str, int])  # of what was read when


def of_run(
    group: str,
    record: Record,
    holds: Holds,
    documents: int,
    what: str,
    within: str = "",
    figures: Mapping[str, int] | None = None,
) -> Affected:
    """Return a run folder as what is affected, or something in it."""
    path = record.run.path / within
    return Affected(
        group=group,
        place=str(path),
        holds=holds,
        documents=documents,
        what=what,
        do=taken_away(record),
        record=record,
        figures=figures or {},
    )


def taken_away(record: Record) -> str:
    """Return how a version goes, with all that was made from it."""
    if is_shared(record, root()):
        return f"whoever keeps the shared root {record.root} takes it away"
    return f"once the recipe is rebuilt: olmo gc --only {record.name} --dependents --delete"


def listed(things: Sequence[str], most: int = 3) -> str:
    """Return the first of some things, and how many more there are."""
    more = len(things) - most
    return ", ".join(things[:most]) + (f" and {more} more" if more > 0 else "")
