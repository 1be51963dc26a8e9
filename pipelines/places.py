"""Every run folder under a root of results, by recipe, asset and partition."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from assets.launcher import JobState, Launcher
from assets.recipe import NAME
from assets.reuse import submitter
from olmo_core.run.folder import RunFolder

VERSION_PATTERN = "[0-9a-f]" * 12 + "*"  # and `.2`, `.3`, … of a forced repeat


@dataclass(frozen=True, kw_only=True)
class Place:
    """A run folder and whose it is: of the recipe in its path, or that submitted its job last."""

    recipe: str
    asset: str
    partition: str | None
    folder: RunFolder

    @property
    def label(self) -> str:
        """`<recipe>/<asset>`, and the partition where there is one."""
        return f"{self.recipe}/{self.asset}" + (f" {self.partition}" if self.partition else "")


def submitted(root: Path, recipe: str | None = None, asset: str | None = None) -> Iterator[Place]:
    """Yield the run folders whose job has been submitted at some time, sorted by their path.

    Names are looked for, never built: a hostile one finds nothing.
    """
    for kind in sorted(root.glob("*/*")):
        owner = kind.parent.name
        if not NAME.fullmatch(owner) or recipe not in (None, owner):
            continue
        if asset not in (None, kind.name):
            continue
        depths = (kind.glob(f"{start}{VERSION_PATTERN}/launch.json") for start in ("", "*/"))
        for launch in sorted(path for found in depths for path in found):
            partition = launch.parents[1]
            yield Place(
                recipe=owner,
                asset=kind.name,
                partition=None if partition == kind else partition.name,
                folder=RunFolder(launch.parent),
            )


def at_work(
    launcher: Launcher, root: Path, recipe: str | None = None, asset: str | None = None
) -> dict[Place, JobState]:
    """Return the run folders whose job is queued or at work, by the recipe that submitted it."""
    found: dict[Place, JobState] = {}
    for place in submitted(root, asset=asset):
        if place.folder.finished:
            continue
        owner = submitter(place.folder) or place.recipe
        if recipe in (None, owner) and (state := launcher.state(place.folder)).alive:
            found[replace(place, recipe=owner)] = state
    return found
