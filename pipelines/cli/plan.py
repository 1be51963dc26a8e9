"""`olmo plan`: what would be made anew, and why, as a tree."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from assets.assemble import build_graph
from assets.corpus.doors import absences
from assets.fingerprint import ABSENT
from assets.graph import Graph
from assets.node import STAGES
from assets.paths import root
from assets.recipe import Recipe, load_recipe
from assets.reporting.texts import amount
from assets.staleness import AssetState, asset_states, change_line, sweep_states
from olmo_core.config.model import count_parameters
from olmo_core.config.train import TrainConfig
from olmo_core.errors import listed
from olmo_core.monitor.dry_run import plan, steps_of
from pipelines.cli.show import print_doubts
from pipelines.cli.terminal import EXIT_FAILED, done_text, print_json, table, terminal

UNWRAPPED = 100_000  # columns, where the output is no terminal: a line for grep is whole
MOST_LINES = 8  # causes of one asset that are printed; --json has all
COLOURS = {
    "up to date": "green",
    "running": "cyan",
    "stale": "yellow",
    "missing": "yellow",
    "blocked": "red",
    "check failed": "red",
}


def print_plan(recipe: str, select: Sequence[str], *, as_json: bool = False) -> int:
    """Print how large each training is, then a tree of each asset's state and why; JSON is a list.

    Without a selection the sweep's checkpoints are in it too. Returns the exit code, which says
    whether a failed check, or something that is not on this machine, stops anything of the main
    line.
    """
    graph = build_graph(load_recipe(recipe)).looked_at_once()
    selected = graph.select(select or graph.nodes)
    console = terminal()
    if not as_json:
        print_training(console, graph.recipe, selected)
        if (absent := absences(graph.recipe)) is not None:
            console.print(absent)
    states = [*asset_states(graph, root(), selected).values()]
    swept = [] if select else sweep_states(graph, root())
    if as_json:
        print_json([entry(graph, state) for state in (*states, *swept)])
    else:
        if not console.is_terminal:
            console.width = UNWRAPPED
        console.print(tree(graph, states, swept), soft_wrap=False)
    return EXIT_FAILED if any(at.state in ("check failed", "blocked") for at in states) else 0


def entry(graph: Graph, state: AssetState) -> dict[str, Any]:
    """Return what `--json` says of one asset or partition; of a change only the values it has."""
    values = [
        {key: value for key in ("old", "new") if (value := getattr(each, key)) is not ABSENT}
        for each in state.changes
    ]
    return {
        "asset": state.asset,
        "partition": state.partition,
        "stage": "sweep" if state.partition else graph.nodes[state.asset].stage,
        "state": state.state,
        "why": state.why,
        "inputs": list(state.inputs),
        "changes": [
            {
                "area": each.area,
                "what": each.what,
                "definitions": list(each.definitions),
                "line": change_line(each),
                **known,
            }
            for each, known in zip(state.changes, values, strict=True)
        ],
        "accepted": state.accepted,
        "reused_from": state.reused_from,
        "path": str(state.run.path) if state.run else None,
        "job": state.job() if state.state == "running" else None,
    }


def tree(graph: Graph, states: Sequence[AssetState], swept: Sequence[AssetState]) -> Tree:
    """Return the states by life stage; of what is up to date one line, of the rest why it is not.

    A cause that several have is written at the first of them.
    """
    top = Tree(f"{graph.recipe.name}: {_counts(states)}", guide_style="dim")
    told: dict[str, str] = {}
    for stage in STAGES:
        of_stage = [state for state in states if graph.nodes[state.asset].stage == stage]
        if of_stage:
            branch = top.add(f"[bold]{stage}[/]")
            _add_up_to_date(branch, of_stage)
            _add_others(branch, of_stage, told)
    if swept:
        branch = top.add("[bold]sweep[/]")
        for asset in dict.fromkeys(state.asset for state in swept):
            of_asset = [state for state in swept if state.asset == asset]
            _add_partitions(branch.add(f"{asset}: {_counts(of_asset)}"), of_asset, told)
    return top


def _counts(states: Iterable[AssetState]) -> str:
    """Return `13 up to date, 2 stale`."""
    counted = collections.Counter(state.state for state in states)
    said = (f"[{COLOURS[name]}]{counted[name]} {name}[/]" for name in COLOURS if counted[name])
    return ", ".join(said)


def _add_up_to_date(branch: Tree, states: Iterable[AssetState]) -> None:
    """Add one line per way to be up to date, with the assets that are so."""
    names: dict[str, list[str]] = {}
    for state in states:
        if state.up_to_date:
            names.setdefault(_marks(state), []).append(state.asset)
    for marks, assets in names.items():
        branch.add(f"[green]up to date[/]{marks}: {', '.join(assets)}")


def _marks(state: AssetState) -> str:
    """Return whose work a result is and by whose word it counts."""
    whose = f" (reused from {state.reused_from})" if state.reused_from else ""
    return escape(whose + (f" ({state.accepted})" if state.accepted else ""))


def _add_others(branch: Tree, states: Iterable[AssetState], told: dict[str, str]) -> None:
    """Add what is not up to date; neighbours that say the same are one line."""
    lines: dict[str, list[str]] = {}
    details: dict[str, list[str]] = {}
    for state in states:
        if state.up_to_date:
            continue
        head, below = _said(state, told)
        said = "\n".join((head, *below))
        lines.setdefault(said, []).append(state.asset)
        details[said] = [head, *below]
    for said, assets in lines.items():
        head, *below = details[said]
        _add_lines(branch.add(f"{', '.join(assets)}: {head}"), below)


def _said(state: AssetState, told: dict[str, str]) -> tuple[str, list[str]]:
    """Return the state with its inputs, and the causes that no asset above has told."""
    head = f"[{COLOURS[state.state]}]{state.state}[/]"
    if state.state == "running":
        head += escape(_job(state))
    below = list(state.says)
    again: dict[str, int] = collections.Counter()
    for line in map(change_line, state.changes):
        first = told.setdefault(line, state.asset)
        if first == state.asset:
            below.append(line)
        else:
            again[first] += 1
    reasons = [f"by {_same(count)} as {first}" for first, count in again.items()]
    reasons += state.reasons
    return head + _marks(state) + "".join(f", {reason}" for reason in reasons), below


def _add_partitions(branch: Tree, states: Sequence[AssetState], told: dict[str, str]) -> None:
    """Add the partitions that are not up to date, those of one cause together."""
    groups: dict[str, list[str]] = {}
    details: dict[str, list[str]] = {}
    for state in states:
        if not state.up_to_date:
            head, below = _said(state, dict(told))
            groups.setdefault(said := "\n".join((head, *below)), []).append(str(state.partition))
            details[said] = [head, *below]
    for said, keys in groups.items():
        head, *below = details[said]
        _add_lines(branch.add(f"{listed(keys)}: {head}"), below)


def _add_lines(branch: Tree, lines: Sequence[str]) -> None:
    """Add causes below an asset, as they are written."""
    for line in lines[:MOST_LINES]:
        branch.add(Text(line))
    if len(lines) > MOST_LINES:
        branch.add(f"and {len(lines) - MOST_LINES} more: --json")


def _job(state: AssetState) -> str:
    """Return which job is at work, and how far it is."""
    job = state.job()
    which = f"{job['engine']} job {job['job_id']}" if job["job_id"] else job["engine"]
    step = f", step {job['step']:,}" if job["step"] is not None else ""
    done = f", {done_text(job)}" if job["done"] else ""
    return f" ({which}{step}{done})"


def _same(count: int) -> str:
    return "the same change" if count == 1 else f"the same {count} changes"


def print_training(console: Console, recipe: Recipe, selected: Sequence[str]) -> None:
    """Print how large each selected training run is, how long, at which rates, how much work."""
    runs = {"stage1": recipe.stage1_config()}
    for number, (_, config) in enumerate(recipe.ingredients(), start=1):
        runs[f"stage2_ingredient{number}"] = config
    if rows := [(name, *_training_figures(runs[name])) for name in selected if name in runs]:
        figures = ("parameters", "steps", "tokens", "FLOPs", "peak and last rate")
        console.print(table(("training", *figures), rows, right=figures))
    print_doubts(console, recipe)


def _training_figures(config: TrainConfig) -> list[str]:
    last, _ = steps_of(config)
    last = last if config.stop_at is None else min(last or config.stop_at, config.stop_at)
    if last is None:
        return [amount(count_parameters(config.model).total), str(config.max_duration), "", "", ""]
    planned = plan(config, [last], devices=1)
    tokens = last * config.tokens_per_step
    rates = [config.optimizer.learning_rate, *planned["learning_rate"].values()]
    return [
        f"{planned['parameters']['total']:,}",
        f"{last:,}",
        amount(tokens),
        f"{planned['flops_per_token'] * tokens:.3g}",
        " → ".join(f"{rate:.5g}" for rate in rates),
    ]
