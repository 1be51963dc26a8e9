"""What launches will take, for their records, and whether a recipe's budget lets them start."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assets.launcher import Launch, Refused
from assets.paths import root, shared_roots
from assets.recipe import limits_of
from assets.reuse import OWN
from olmo_core import environment
from olmo_core.config.load import build
from olmo_core.config.train import TrainConfig
from olmo_core.forecast.budget import excesses, unforeseen
from olmo_core.forecast.figures import Forecast
from olmo_core.forecast.job import forecast_job
from olmo_core.forecast.loads import Work
from olmo_core.forecast.measured import spent
from olmo_core.run.code import TRAINING
from olmo_core.run.folder import RunFolder
from pipelines.site.file import Site
from pipelines.site.place import place_of

Alive = Callable[[RunFolder], bool]


def forecast_launch(launch: Launch, site: Site) -> Forecast | None:
    """Return what a launch will take; None of a sweep's partition, of which none is made.

    Its inputs are finished, so that how much it has to do is known.
    """
    if launch.identity.get("partition") is not None or "parts" not in launch.identity:
        return None
    below = Path(launch.environment.get(environment.ROOT, root()))
    inputs: dict[str, Mapping[str, Any]] = {}
    for name, entry in launch.identity["inputs"].items():
        folder = RunFolder((below if entry["root"] == OWN else Path(entry["root"])) / entry["path"])
        if folder.finished:
            inputs[name] = folder.read_result()["report"]["numbers"]
    work = Work(
        asset=launch.names[1],
        module=launch.module,
        config=launch.identity["parts"]["config"],
        inputs=inputs,
    )
    config = build(TrainConfig, launch.config) if launch.module == TRAINING else None
    roots = (below, *shared_roots(below))
    return forecast_job(work, place_of(site, launch), roots, config=config)


def require_within_budget(
    recipe: str, forecasts: Sequence[Forecast], site: Site, alive: Alive
) -> None:
    """Refuse jobs that would exceed their recipe's budget, with all that its runs took before.

    Args:
        recipe: Its name; one that is not on the search path has no budget.
        forecasts: Of the jobs.
        site: Whose prices count.
        alive: Whether a folder's job is queued or at work: what it will take is taken.

    Raises:
        Refused: a limit would be exceeded, or cannot be held since the figure of a job is not
            known.
        ConfigError: budget.yaml is malformed.
    """
    if lines := [*itertools.chain(*against_budget(recipe, forecasts, site, alive))]:
        raise Refused(f"{recipe}: budget.yaml: {'; '.join(lines)}. Nothing was submitted.")


def against_budget(
    recipe: str, forecasts: Sequence[Forecast], site: Site, alive: Alive
) -> tuple[list[str], list[str]]:
    """Return which limits jobs would exceed, and for which the figure of some job is not known.

    Arguments and errors as of `require_within_budget`, which refuses either.
    """
    limits = limits_of(recipe)
    if limits is None:
        return [], []
    folder, currency = root() / recipe, site.prices.currency if site.prices else None
    taken = spent(folder, currency)
    for name, value in _under_way(folder, alive).items():
        taken[name] = taken.get(name, 0.0) + value
    return excesses(limits, forecasts, taken, currency=currency), unforeseen(limits, forecasts)


def _under_way(recipe: Path, alive: Alive) -> dict[str, float]:
    """Return what the jobs at work in a recipe's folder are forecast to take."""
    sums: dict[str, float] = {}
    for launch in recipe.glob("*/*/launch.json"):
        folder = RunFolder(launch.parent)
        if folder.finished or not alive(folder):
            continue
        forecast = (folder.read(folder.launch) or {}).get("forecast") or {"figures": {}}
        for name, figure in forecast["figures"].items():
            sums[name] = sums.get(name, 0.0) + figure["value"]
    return sums
