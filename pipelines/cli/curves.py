"""`olmo curves`: figures of checkpoints over tokens, in the terminal or as a picture."""

from collections.abc import Sequence
from pathlib import Path

from assets.assemble import build_graph
from assets.evals.curves import make_curves
from assets.paths import root, shared_roots
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.evals.store.read import open_results
from olmo_core.files import write_atomic
from olmo_core.monitor.curves import FORMATS, characters, picture
from pipelines.cli.leaderboard import say_damaged
from pipelines.cli.terminal import terminal

MOST_PANELS = 12  # that are drawn where no task is named
WIDEST = 100  # columns of a chart in a terminal


def draw_curves(recipes: Sequence[str], tasks: Sequence[str], out: Path | None) -> int:
    """Draw a panel per task; returns 1 if a file of the store is damaged.

    Raises:
        ConfigError: the file's suffix is of no picture, or there is nothing to draw.
    """
    suffix = None if out is None else out.suffix.removeprefix(".").lower()
    if suffix is not None and suffix not in FORMATS:
        raise ConfigError(f"--out: {out}: expected a name that ends in .png or .svg")
    graphs = [build_graph(load_recipe(name)) for name in dict.fromkeys(recipes)]
    results = open_results(root(), shared_roots(root()))
    curves = make_curves(graphs, results, root(), tasks)
    if not curves.panels:
        names = [graph.recipe.name for graph in graphs]
        raise ConfigError(
            f"{', '.join(names)}: nothing has been evaluated; start with: olmo sweep {names[0]}"
        )
    panels = curves.panels if tasks else curves.panels[:MOST_PANELS]
    said = [*curves.notes]
    if left := [panel.title for panel in curves.panels[len(panels) :]]:
        said.append(f"not drawn, but with --task: {', '.join(left)}")
    if out is None:
        width = min(terminal().width, WIDEST)
        print("\n\n".join(characters(panel, width=width) for panel in panels))
    else:
        write_atomic(out, picture(panels, str(suffix)))
        print(out)
    print("".join(f"\n{note}" for note in said), end="\n" if said else "")
    return say_damaged(results)
