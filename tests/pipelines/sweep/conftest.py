"""A recipe with checkpoints, and a site whose engine takes arrays."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.assemble import build_graph
from assets.graph import Graph
from assets.recipe import load_recipe
from pipelines.launchers.local import LocalLauncher
from pipelines.launchers.router import Router
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from tests.pipelines.sweep.steps import Arrays, finish, save

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def graph(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    return build_graph(load_recipe("tiny"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as opened:
        yield opened


@pytest.fixture
def arrays() -> Arrays:
    return Arrays()


@pytest.fixture
def launcher(arrays: Arrays) -> Router:
    """A site that evaluates on an engine with arrays."""
    site = Site(slurm=SlurmSite(), work={"evals": ResourceSpec(engine="slurm")})
    return Router(site=site, engines={"local": LocalLauncher(site=site), "slurm": arrays})


@pytest.fixture
def evaluable(graph: Graph, toy_root: Path) -> Graph:
    """The graph, with two checkpoints and all else that their evaluation needs."""
    for step in (20, 40):
        save(graph, toy_root, "stage1", step)
    for name in ("tokenizer", "held_out"):
        finish(
            graph.folder(toy_root, name) / graph.fingerprints[name].version,
            fingerprint=graph.fingerprints[name].value,
            digest="x",
            inputs={},
        )
    return graph
