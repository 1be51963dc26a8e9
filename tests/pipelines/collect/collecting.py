"""A root of made-up runs, and what is taken away of it."""

import random
from pathlib import Path

from assets.graph import Graph
from pipelines.collect.collection import Asked, Outcome, collect
from pipelines.collect.mark import Recipes
from pipelines.launchers.local import LocalLauncher
from tests.pipelines.collect.roots import LONG_AGO, Made, version

NOW = Asked(older_than_seconds=0)


def run_gc(root: Path, asked: Asked = NOW, *graphs: Graph, keep_trash: bool = False) -> Outcome:
    recipes = Recipes(graphs={graph.recipe.name: graph for graph in graphs}, broken={})
    return collect(
        root, recipes, LocalLauncher(), asked, keep_trash=keep_trash, deleted=lambda files: None
    )


def a_root(folder: Path, seed: int = 0, runs: int = 40) -> tuple[Made, set[str]]:
    """A root, and which of its runs stay."""
    dice, made = random.Random(seed), Made(folder)
    lines = ["one/raw", "one/tokens", "one/stage1", "two/raw", "two/tokens"]
    lines += [f"two/checkpoint_downstream/stage1@step{step}" for step in (10, 20)]
    for number in range(runs):
        inputs = dice.sample([*made.inputs], min(len(made.inputs), dice.choice([0, 1, 2])))
        ended = dice.choice([None, LONG_AGO + number, LONG_AGO + number])
        made.run(f"{dice.choice(lines)}/{version(number)}", inputs, ended=ended)
    newest: dict[str, str] = {}
    for name, ended in made.finished.items():
        if ended is not None:
            newest[name.rpartition("/")[0]] = name
    return made, made.reachable({*newest.values()})


def require_whole(made: Made, stay: set[str], before: dict[str, bytes]) -> None:
    """What stays is there to the byte, and what is there lacks nothing that it was made from."""
    assert made.stamps(stay) == before
    there = made.there()
    assert stay <= there
    assert made.reachable(there) == there
    for name in there:
        assert {path.name for path in (made.root / name).iterdir()} >= {
            "config.yaml",
            "launch.json",
        }
