"""`/plan/<recipe>`: what `olmo run` would make, and why; computes and starts nothing."""

from collections import Counter
from pathlib import Path
from typing import Any

from assets.assemble import build_graph
from assets.corpus.doors import absences
from assets.node import STAGES
from assets.recipe import find_recipes, load_recipe
from assets.reporting.texts import progress_text
from assets.staleness import AssetState, asset_states, sweep_states
from pipelines.explorer import addresses
from pipelines.explorer.errors import Missing
from pipelines.explorer.experiments import MODEL
from pipelines.explorer.render import Page


def plan_page(root: Path, recipe: str) -> Page:
    """Return the state of each asset of a recipe as it stands, by life stage.

    Raises:
        Missing: no such recipe.
        ConfigError: it is broken.
    """
    require_recipe(recipe)
    graph = build_graph(load_recipe(recipe)).looked_at_once()
    states = [*asset_states(graph, root, graph.nodes).values()]
    swept = sweep_states(graph, root)
    stages = {
        stage: [_row(each) for each in states if graph.nodes[each.asset].stage == stage]
        for stage in STAGES
    }
    return Page(
        template="plan.html",
        title=f"Plan of {recipe}",
        values={
            "recipe": recipe,
            "counts": Counter(each.state for each in states),
            "stages": {**stages, "sweep": [_row(each) for each in swept]},
            "absent": absences(graph.recipe),
        },
    )


def require_recipe(recipe: str) -> None:
    """Refuse a name that no recipe has.

    Raises:
        Missing: as said.
    """
    if recipe not in find_recipes():
        raise Missing(f"no recipe is called {recipe[:200]}")


def _row(state: AssetState) -> dict[str, Any]:
    why = state.why
    if state.state == "running":
        assert state.run is not None
        status = state.run.read_status()
        why = [progress_text(status) if status else "starting", *why]
    if state.accepted:
        why = [*why, state.accepted]
    if state.reused_from:
        why = [*why, f"reused from {state.reused_from}"]
    version = None if state.run is None else state.run.path.name
    link = None
    if state.run is not None and MODEL.fullmatch(state.asset):
        link = addresses.model_of(state.run.path)
    return {"state": state, "why": why, "version": version, "link": link}
