"""`olmo cost`: what a run would take, before it is launched, and by what each figure is known."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from assets.assemble import build_graph
from assets.evals.sweep import sweep_names
from assets.graph import Graph
from assets.launcher import Launch
from assets.paths import root
from assets.recipe import limits_of, load_recipe
from assets.reporting.forecasts import TITLES, figure_text
from assets.reporting.texts import duration
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.forecast.figures import FIGURES, Forecast, Place, total
from olmo_core.forecast.loads import CHECKPOINT, OF_SCORES
from olmo_core.monitor.devices import NAMES, known_device
from pipelines.cli.terminal import plain_line, print_json, table, terminal
from pipelines.forecast import Plan, forecast_graph
from pipelines.launchers.forecast import Alive, against_budget, require_within_budget
from pipelines.launchers.router import Router, site_launcher
from pipelines.site.file import Site
from pipelines.site.place import place_of

GPUS_PER_NODE = 8  # of --devices
NOT_SHOWN = ("text_bytes", "site_kwh")  # figures without a column
EXIT_OVER_BUDGET = 1


def print_cost(
    recipe: str,
    select: Sequence[str],
    *,
    force: bool,
    device: str | None,
    devices: int | None,
    as_json: bool,
) -> int:
    """Print what a run of the selected assets would take; return the exit code.

    Args:
        recipe: Its name.
        select: Assets; none: all.
        force: As of `olmo run`: finished assets are made again.
        device: A GPU on which training and evaluations would run, in place of the site's.
        devices: How many of them train, in place of the site's.
        as_json: JSON alone.

    Raises:
        ConfigError: unknown recipe, asset or GPU, or devices that do not divide a global batch.
    """
    graph = build_graph(load_recipe(recipe))
    launcher = site_launcher()
    place = places_with(launcher.site, device, devices)
    plan = planned(graph, select, launcher, force=force, place=place)
    site = launcher.site
    jobs = [*plan.forecasts.values()]
    over, unknown = against_budget(recipe, jobs, site, _beside(graph, plan, launcher))
    if as_json:
        print_json(cost_entry(recipe, plan, site, over, unknown))
    else:
        print_jobs(terminal(), recipe, plan, site, over, unknown)
        if sweep_names(graph) and plan.forecasts:
            terminal().print(
                f"Not in it: the sweep of its checkpoints (olmo cost {recipe} --sweep)"
            )
    return EXIT_OVER_BUDGET if over or unknown else 0


def planned(
    graph: Graph,
    select: Sequence[str],
    launcher: Router,
    *,
    force: bool = False,
    place: Callable[[Launch], Place] | None = None,
) -> Plan:
    """Return what `olmo run` would make of the selected assets, and what that will take."""
    selected = graph.select(select or graph.nodes)
    forced = set(select or graph.nodes) if force else set[str]()
    return forecast_graph(
        graph,
        root(),
        selected,
        place or (lambda launch: place_of(launcher.site, launch)),
        launcher.queues,
        forced=forced,
    )


def require_affordable(graph: Graph, select: Sequence[str], *, force: bool) -> None:
    """Refuse a run that would exceed the recipe's budget, before anything is submitted.

    Raises:
        Refused: as said, with the figures; or those of a job are not known.
    """
    if limits_of(graph.recipe.name) is None:
        return  # the plan takes a second or two
    launcher = site_launcher()
    plan = planned(graph, select, launcher, force=force)
    require_within_budget(
        graph.recipe.name, [*plan.forecasts.values()], launcher.site, _beside(graph, plan, launcher)
    )


def _beside(graph: Graph, plan: Plan, launcher: Router) -> Alive:
    """Return what says whether a folder's job is at work and none of a plan's, which follows it."""
    try:
        own = {run.path for name in plan.forecasts for run in graph.unfinished(root(), name)}
    except ConfigError:  # its sources are elsewhere, so no job here is its own: the plan says so
        own = set[Path]()
    return lambda run: run.path not in own and launcher.state(run).alive


def places_with(site: Site, device: str | None, devices: int | None) -> Callable[[Launch], Place]:
    """Return the site's places, with another GPU or number of them where they are given."""
    if device is not None and known_device(device) is None:
        raise ConfigError(f"--device {device}: nothing is known of it; {nearest(device, NAMES)}")
    if devices is not None and device is None:
        raise ConfigError("--devices without --device: of which GPU? As in --device H100")

    def place(launch: Launch) -> Place:
        found = place_of(site, launch)
        # What scores texts is one process, which uses one GPU; all else needs none.
        if device is None or not (launch.distributed or launch.module in (*OF_SCORES, CHECKPOINT)):
            return found
        count = (devices or max(1, found.devices)) if launch.distributed else 1
        # As many nodes as the devices need; the site's are for the site's number of devices.
        nodes = found.nodes if devices is None else 1
        nodes = max(nodes, -(-count // GPUS_PER_NODE))
        return dataclasses.replace(found, device=device, devices=count, gpus=True, nodes=nodes)

    return place


def _currency(site: Site) -> str | None:
    return site.prices.currency if site.prices else None


def cost_entry(
    recipe: str, plan: Plan, site: Site, over: Sequence[str], unknown: Sequence[str]
) -> dict[str, Any]:
    """Return what `print_jobs` prints as JSON, and by what each figure is known."""
    forecasts = [*plan.forecasts.values()]
    return {
        "recipe": recipe,
        "currency": _currency(site),
        "assets": [
            {
                "asset": each.asset.partition(" ")[0],
                "partition": each.asset.partition(" ")[2] or None,
                "figures": {
                    name: dataclasses.asdict(figure) for name, figure in each.figures.items()
                },
                "unknown": dict(each.unknown),
            }
            for each in forecasts
        ],
        "total": {
            **{name: dataclasses.asdict(total(forecasts, name)) for name in FIGURES},
            "elapsed_seconds": plan.elapsed_seconds,
        },
        "notes": list(plan.notes),
        "budget": {"exceeded": list(over), "not_known": list(unknown)},
    }


def print_jobs(
    console: Console,
    recipe: str,
    plan: Plan,
    site: Site,
    over: Sequence[str],
    unknown: Sequence[str],
) -> None:
    """Print what jobs would take, in all and each; what exceeds a budget, and what is not known."""
    if not plan.forecasts:
        console.print(f"{recipe}: all is finished; nothing would be made.")
        return
    currency = _currency(site)
    titles = {**TITLES, "money": currency or "money"}
    rows: dict[str, list[Forecast]] = defaultdict(list)
    for name, forecast in plan.forecasts.items():
        rows[plan.rows.get(name, name)].append(forecast)
    every = [*plan.forecasts.values()]
    shown = [name for name in TITLES if name not in NOT_SHOWN]
    names = [name for name in shown if any(name in each.figures for each in every)]
    columns = [titles[name] for name in names]
    first = ["evaluations"] if plan.rows else []
    cells = [
        [row, *([str(len(jobs))] if first else []), *(_sum(name, jobs) for name in names)]
        for row, jobs in [*rows.items(), ("in all", every)]
    ]
    console.print(table(("asset", *first, *columns), cells, right=[*first, *columns]))
    if plan.elapsed_seconds is not None:
        console.print(f"from begin to end: {duration(plan.elapsed_seconds)}, without queueing")
    for line in _bases(plan):
        console.print(line, markup=False)
    for note in plan.notes:
        console.print(note, style="yellow", markup=False)
    for line in (*over, *unknown):
        console.print(f"[red]✗[/] budget.yaml: {plain_line(line)}")


def _bases(plan: Plan) -> list[str]:
    """Return on what the times rest, and what is not known, each reason once with its jobs."""
    times: dict[str, list[str]] = defaultdict(list)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, forecast in plan.forecasts.items():
        if "seconds" in forecast.figures:
            times[forecast.figures["seconds"].basis].append(plan.rows.get(name, name))
        for figure, why in forecast.unknown.items():
            reasons[figure, why].append(plan.rows.get(name, name))
    unknown: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (figure, why), assets in reasons.items():
        whose = "" if len(assets) == len(plan.forecasts) else f" of {_named(assets)}"
        unknown[whose, why].append(figure)
    return [
        "\nWhat the time rests on (--json has it of every figure):",
        *(f"  {_named(assets)}: {basis}" for basis, assets in times.items()),
        *(["Not known:"] if unknown else []),
        *(f"  {', '.join(figures)}{whose}: {why}" for (whose, why), figures in unknown.items()),
    ]


def _named(rows: Sequence[str]) -> str:
    """Return rows by name, those with several jobs once and with their number."""
    counts = Counter(rows)
    return ", ".join(f"{row} ({count})" if count > 1 else row for row, count in counts.items())


def _sum(name: str, forecasts: Sequence[Forecast]) -> str:
    whole = total(forecasts, name)
    if whole.value is None:
        return ""
    return ("≥ " if whole.without else "") + figure_text(name, whole.value)
