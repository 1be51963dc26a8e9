"""`olmo cost --sweep`: what the evaluations of checkpoints would take; a budget stops them too."""

from collections.abc import Sequence

from assets.assemble import build_graph
from assets.graph import Graph
from assets.paths import root
from assets.recipe import limits_of, load_recipe
from olmo_core.run.folder import RunFolder
from pipelines.cli.cost import EXIT_OVER_BUDGET, cost_entry, places_with, print_jobs
from pipelines.cli.terminal import print_json, terminal
from pipelines.forecast import Plan
from pipelines.forecast_sweep import forecast_evaluations, forecast_sweep, to_score
from pipelines.launchers.forecast import Alive, against_budget, require_within_budget
from pipelines.launchers.router import Router, site_launcher
from pipelines.sweep import Lacking, wanted_assets


def print_sweep_cost(
    recipe: str,
    *,
    every: int,
    runs: Sequence[str],
    evaluations: Sequence[str],
    device: str | None,
    devices: int | None,
    as_json: bool,
) -> int:
    """Print what `olmo sweep` of the same options would take; return the exit code.

    Checkpoints that trainings have yet to write are in it, each named in the notes.

    Args:
        recipe: Its name.
        every: Of each run, only checkpoints at multiples of so many steps.
        runs: Only checkpoints of these trainings; all by default.
        evaluations: Only these of the recipe's evaluations; all by default.
        device: A GPU on which evaluations would run, in place of the site's.
        devices: As of `olmo cost`; an evaluation uses one.
        as_json: JSON alone.

    Raises:
        ConfigError: unknown recipe, evaluation, training or GPU.
    """
    graph = build_graph(load_recipe(recipe))
    names = wanted_assets(graph, evaluations, runs)
    launcher = site_launcher()
    place = places_with(launcher.site, device, devices)
    plan = forecast_sweep(graph, root(), names, place, launcher.queues, every=every, runs=runs)
    jobs, site = [*plan.forecasts.values()], launcher.site
    over, unknown = against_budget(recipe, jobs, site, _beside(graph, plan, launcher))
    if as_json:
        print_json(cost_entry(recipe, plan, site, over, unknown))
    else:
        print_jobs(terminal(), recipe, plan, site, over, unknown)
    return EXIT_OVER_BUDGET if over or unknown else 0


def require_affordable_sweep(graph: Graph, lacks: Lacking, launcher: Router) -> None:
    """Refuse a sweep that would exceed the recipe's budget, before anything is submitted.

    Checkpoints that appear while it is made are compared one by one.

    Raises:
        Refused: as said, with the figures; or those of an evaluation are not known.
    """
    recipe = graph.recipe.name
    if limits_of(recipe) is None or not lacks.works:
        return
    site = launcher.site
    works = to_score(lacks)
    place = places_with(site, None, None)
    plan = forecast_evaluations(graph, root(), works, place, launcher.queues)
    jobs = [*plan.forecasts.values()]
    require_within_budget(recipe, jobs, site, _beside(graph, plan, launcher))


def _beside(graph: Graph, plan: Plan, launcher: Router) -> Alive:
    """Return what says whether a folder's job is at work and none of a plan's, which follows it."""
    labels = [label.partition(" ") for label in plan.forecasts]
    own = {graph.folder(root(), name) / key for name, _, key in labels}

    def alive(run: RunFolder) -> bool:
        return run.path.parent not in own and launcher.state(run).alive

    return alive
