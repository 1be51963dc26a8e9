"""A recipe's whole graph with every job on a real Slurm, training over two nodes."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.recipe import load_recipe
from tests.integration.conftest import World
from tests.slurm.cluster import Cluster
from tests.slurm.table import TABLE

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# Two ranks of one thread each, on either engine.
SLURM_SITE = """\
slurm: {poll_seconds: 0.5}
work:
  corpus: {engine: slurm, cpus_per_node: 2}
  train: {engine: slurm, nodes: 2, cpus_per_node: 1}
  evals: {engine: slurm, cpus_per_node: 2}
  release: {engine: slurm, cpus_per_node: 2}
"""
LOCAL_SITE = """\
work:
  train: {processes_per_node: 2, cpus_per_node: 2}
"""
WEIGHTS = "model/model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Place(World):
    """A root of results with a site file of its own."""

    more: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.more}

    def run(self, *arguments: str) -> None:
        done = self.olmo("run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def place(root: Path, site: str, **more: str) -> Place:
    root.mkdir()
    file = root.with_suffix(".site.yaml")
    file.write_text(site)
    return Place(root=root, more={"OLMO_SITE": str(file), **more})


@pytest.mark.parametrize(
    ("recipe", "select"),
    [
        ("tiny", ["--select", "soup,perplexity"]),
        pytest.param("demo", [], marks=pytest.mark.drill),
    ],
    ids=["tiny", "demo"],
)
def test_the_graph_on_slurm_ends_with_the_weights_of_the_local_engine(
    recipe: str,
    select: list[str],
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipes = {"OLMO_RECIPES": ""} if recipe == "demo" else {}
    conf = {"SLURM_CONF": str(cluster.configuration), "PATH": cluster.environment["PATH"]}
    slurm = place(tmp_path / "slurm", SLURM_SITE, **conf, **recipes)
    local = place(tmp_path / "local", LOCAL_SITE, **recipes)
    began = time.monotonic()
    slurm.run(recipe, *select)
    seconds = time.monotonic() - began

    for name in ("OLMO_RECIPES", "OLMO_ROOT"):
        monkeypatch.setenv(name, slurm.environment[name])
    graph = build_graph(load_recipe(recipe))
    jobs: dict[str, int] = {}
    trained = [name for name, node in graph.nodes.items() if node.distributed]
    made = graph.select(select[1].split(",") if select else graph.nodes)
    for name in made:
        run = graph.finished(slurm.root, name)
        assert run is not None
        launch = json.loads(run.launch.read_text())
        assert launch["engine"] == "slurm", name
        jobs[launch["job_id"]] = launch["run"]["nodes"]
        if name not in (*trained, "soup") and graph.nodes[name].stage == "corpus":
            folder = graph.folder(local.root, name)
            shutil.copytree(graph.folder(slurm.root, name), folder)
    assert len(jobs) == len(made)
    assert sorted(jobs.values())[-len(trained) :] == [2] * len(trained)

    local.run(recipe, "--select", "soup")
    for name in (*trained, "soup"):
        theirs, ours = graph.finished(local.root, name), graph.finished(slurm.root, name)
        assert theirs is not None
        assert ours is not None
        assert (theirs.path / WEIGHTS).read_bytes() == (ours.path / WEIGHTS).read_bytes(), name
    TABLE.add(
        f"`{' '.join(['olmo run', recipe, *select])}` with the slurm engine",
        "same final weights as the local engine",
        f"{len(jobs)} jobs in {seconds:.0f} s, {len(trained)} of them over 2 nodes; {len(trained)} "
        "models and their soup equal to the last bit",
    )
