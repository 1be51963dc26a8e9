"""Which finished runs are most like a job to come, and in what they differ from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmo_core.errors import ConfigError
from olmo_core.forecast.figures import Place
from olmo_core.forecast.loads import Load, Work, load_of
from olmo_core.forecast.past import PastRun

MOST_SAID = 4  # differences that a basis names
ONE_DIFFERENCE = 0.5  # counts as a load half as far apart as twice or half of it


@dataclass(frozen=True, kw_only=True)
class Like:
    """A finished run of the same job, and how it compares."""

    run: PastRun
    load: Load | None  # of the run
    ratio: float  # load of the job to come / load of the run; 1 where neither has any
    cores: float  # cores of the job to come / cores of the run, all nodes; 1 where not known
    processes: float  # the same of one node
    differences: tuple[str, ...]

    @property
    def distance(self) -> float:
        """Return how unlike it is: factors in load and cores, and configurations that differ."""
        factors = abs(math.log2(self.ratio)) + abs(math.log2(self.cores))
        return round(factors, 1) + ONE_DIFFERENCE * len(self.differences)


def work_of(run: PastRun) -> Work:
    """Return what a finished run had to do."""
    asset = str(run.result["asset"])
    inputs = {"raw": run.numbers} if asset == "raw" else run.inputs
    return Work(asset=asset, module=run.module, config=run.config, inputs=inputs)


def nearest(work: Work, place: Place, runs: Sequence[PastRun]) -> list[Like]:
    """Return the runs of the same job that are most like it, all that are equally so.

    A run on another kind of device, or whose load cannot be compared, is not like it; nor is one
    that took scores of equal weights from the cache, which tells nothing of the work, but of
    another that will.
    """
    load = load_of(work)
    found: list[Like] = []
    for run in runs:
        if run.module != work.module or run.kind != place.kind:
            continue
        if run.scores_from_cache != work.from_cache:
            continue
        try:
            own = load_of(work_of(run))
        except ConfigError:  # made by another version of the code, whose keys or tasks these are
            continue
        if (load is None) != (own is None) or (load and own and load.unit != own.unit):
            continue
        if load and own and not (load.amount > 0 and own.amount > 0):
            continue
        found.append(
            Like(
                run=run,
                load=own,
                ratio=load.amount / own.amount if load and own else 1.0,
                cores=_processes(place, run) * place.nodes / run.nodes,
                processes=_processes(place, run),
                differences=different_keys(work.config, run.config),
            )
        )
    least = min((each.distance for each in found), default=0.0)
    return [each for each in found if each.distance == least]


def different_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that two configurations both have and whose values differ."""
    return tuple(key for key in one if key in other and one[key] != other[key])


def said(differences: Sequence[str]) -> str:
    """Return differences in words, the first few by name; empty where there are none."""
    if not differences:
        return ""
    more = f" and {len(differences) - MOST_SAID} more" if len(differences) > MOST_SAID else ""
    return f"; differs in {', '.join(differences[:MOST_SAID])}{more}"


def of_several(likes: Sequence[Like]) -> str:
    """Return the name of the run, or how many there are beside it."""
    name = likes[0].run.name
    return name if len(likes) == 1 else f"{name} and {len(likes) - 1} alike"


def _processes(place: Place, run: PastRun) -> float:
    if place.cores is None or run.cores is None:
        return 1.0
    return place.cores / run.cores
