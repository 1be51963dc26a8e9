"""A sweep on an engine without a queue: one evaluation after another, while the command waits."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from assets.execution.produce import AssetBuild, Maker, Produced
from assets.launcher import JobState, Launcher
from assets.paths import root
from olmo_core.run.folder import RunFolder

MOST_SCORES = 4  # in the line of an evaluation that has ended


def make_here(launcher: Launcher, works: Sequence[AssetBuild]) -> list[str]:
    """Make evaluations one after another; a line tells of each as it ends.

    One that fails stops none of the others. What is finished is kept, so that the same command
    goes on where it was ended; a job at work is followed and not started again.

    Returns:
        The names of those without a result.

    Raises:
        EngineError: the engine refuses a job.
    """
    maker = Maker(root=root(), launcher=launcher, observer=Silent())
    named = {f"{work.node.name} {work.partition}": work for work in works}
    failed: list[str] = []
    for number, (name, ended) in enumerate(maker.make(named), start=1):
        place = f"[{number}/{len(named)}] {name}"
        if isinstance(ended, Produced):
            print(f"{place}: {_scores(ended.result)}", flush=True)
        else:
            failed.append(name)
            print(f"olmo: {place}: {ended}", file=sys.stderr, flush=True)
    return failed


class Silent:
    """An observer of jobs that are short, and told of when they end."""

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Show nothing."""

    def state(self, asset: str, state: JobState) -> None:
        """Show nothing."""

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Show nothing."""

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Show nothing: the caller says what was made."""


def _scores(result: Mapping[str, Any]) -> str:
    """Return the first scores of an evaluation, `task metric`, and what it took."""
    numbers: Mapping[str, Any] = result["report"]["numbers"]
    scores = [f"{name} {value:.4g}" for name, value in numbers.items() if " " in name]
    seconds = result["start_seconds"] + result["work_seconds"]
    return ", ".join([*scores[:MOST_SCORES], f"{seconds:.1f} s"])
