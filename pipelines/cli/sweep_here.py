"""A sweep on an engine without a queue: evaluations take turns in one process, while this waits."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assets.execution.produce import AssetBuild, Maker, Produced
from assets.launcher import JobState, Launcher
from assets.paths import root
from olmo_core.run.folder import RunFolder

MOST_SCORES = 4  # in the line of an evaluation that has ended

Look = Callable[[], Sequence[AssetBuild]]


def make_here(launcher: Launcher, works: Sequence[AssetBuild], look: Look) -> list[str]:
    """Make evaluations one after another; a line tells of each as it ends.

    One that fails stops none of the others. What is finished is kept, so that the same command
    goes on where it was ended; a job at work is followed and not started again.

    Args:
        launcher: Of this machine.
        works: What to make first.
        look: Returns what is lacking by then: checkpoints that have appeared meanwhile are taken
            up when all else is made, again and again until there is none.

    Returns:
        The names of those without a result.

    Raises:
        EngineError: the engine refuses a job.
    """
    maker = Maker(root=root(), launcher=launcher, observer=Silent())
    began = time.monotonic()
    met: set[str] = set()
    failed: list[str] = []
    ended = 0
    while named := {_name(work): work for work in works if _name(work) not in met}:
        met |= named.keys()
        for name, end in maker.make(named):
            ended += 1
            place = f"[{ended}/{len(met)}] {name}"
            left = _left(time.monotonic() - began, ended, len(met))
            if isinstance(end, Produced):
                print(f"{place}: {_scores(end.result)}{left}", flush=True)
            else:
                failed.append(name)
                print(f"olmo: {place}: {end}", file=sys.stderr, flush=True)
        works = look()
    return failed


def _name(work: AssetBuild) -> str:
    return f"{work.node.name} {work.partition}"


def _left(seconds: float, ended: int, total: int) -> str:
    """Return how long the rest takes, at the rate so far; nothing for the last one."""
    rest = seconds / ended * (total - ended)
    if not rest:
        return ""
    return f"; {rest / 60:.0f} min left" if rest >= 90 else f"; {rest:.0f} s left"


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
