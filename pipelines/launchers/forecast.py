"""What launches will take, for their records, and whether a recipe's budget lets them start."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from assets.fingerprint import sha256_json
from assets.launcher import Launch, Refused
from assets.paths import root, shared_roots
from assets.recipe import limits_of
from assets.reuse import OWN
from olmo_core import environment
from olmo_core.config.load import build
from olmo_core.config.train import TrainConfig
from olmo_core.forecast.budget import excesses, unforeseen
from olmo_core.forecast.checkpoints import scored_as_model
from olmo_core.forecast.figures import Forecast
from olmo_core.forecast.job import forecast_job
from olmo_core.forecast.loads import OF_CHECKPOINTS, Work, work_module
from olmo_core.forecast.measured import spent
from olmo_core.forecast.past import reported
from olmo_core.run.code import TRAINING
from olmo_core.run.folder import RunFolder
from pipelines.site.file import Site
from pipelines.site.place import place_of

Alive = Callable[[RunFolder], bool]


def forecast_launches(launches: Sequence[Launch], site: Site) -> list[Forecast | None]:
    """Return what each launch will take; None of one that does not say what decides its result.

    Their inputs are finished, so that how much they have to do is known. Evaluations of many
    checkpoints that have the same to do are forecast once.
    """
    known: dict[str, Forecast] = {}
    found: list[Forecast | None] = []
    for launch in launches:
        if "parts" not in launch.identity:
            found.append(None)
            continue
        below = Path(launch.environment.get(environment.ROOT, root()))
        roots = (below, *shared_roots(below))
        work = _work(launch, roots)
        if launch.in_turn and site.work_of(launch).engine == "local":
            work = replace(work, first_in_process=False)  # as most are
        config = build(TrainConfig, launch.config) if launch.module == TRAINING else None
        same = sha256_json([*launch.names, asdict(work), launch.config if config else None])
        if same not in known:
            known[same] = forecast_job(work, place_of(site, launch), roots, config=config)
        partition = launch.identity.get("partition")
        name = f"{work.asset} {partition}" if partition is not None else work.asset
        found.append(replace(known[same], asset=name))
    return found


def _work(launch: Launch, roots: Sequence[Path]) -> Work:
    """Return what a launch has to do."""
    asset, config = launch.names[1], launch.identity["parts"]["config"]
    inputs: dict[str, Mapping[str, Any]] = {}
    from_cache = False
    for name, entry in launch.identity["inputs"].items():
        folder = (roots[0] if entry["root"] == OWN else Path(entry["root"])) / entry["path"]
        numbers = reported(name, folder)
        if numbers is not None:
            inputs[name] = numbers
        if name == "checkpoint" and asset in OF_CHECKPOINTS:
            from_cache = scored_as_model(folder, asset, config, roots)
    return Work(
        asset=asset,
        module=work_module(asset, launch.module),
        config=config,
        inputs=inputs,
        from_cache=from_cache,
    )


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
    # <asset>/<version>, and of a sweep <asset>/<partition>/<version>
    for launch in (*recipe.glob("*/*/launch.json"), *recipe.glob("*/*/*/launch.json")):
        folder = RunFolder(launch.parent)
        if folder.finished or not alive(folder):
            continue
        forecast = (folder.read(folder.launch) or {}).get("forecast") or {"figures": {}}
        for name, figure in forecast["figures"].items():
            sums[name] = sums.get(name, 0.0) + figure["value"]
    return sums
