"""A graph of one asset, `tiny/stage1`: a real training over two nodes, at the pace of a test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from assets.graph import Graph
from assets.node import Node
from assets.paths import root
from assets.recipe import Recipe
from olmo_core.config.load import Tree
from tests.olmo_core.train.conftest import CONFIG

STEPS = 2000

# What the code server loads in place of pipelines.definitions: toys, this graph, and a sweep.
DEFINITIONS = """
import dagster as dg
import assets.evals.sweep
from assets.execution.materialise import build_asset
from pipelines.definitions import assembled, main_line
from tests.pipelines.evaluations import MODULE, sweep_graph
from tests.pipelines.production import toy
from tests.slurm.training_graph import training_graph

assets.evals.sweep.MODULE = MODULE

@dg.definitions
def defs() -> dg.Definitions:
    toys = (main_line(toy(number)) for number in range({graphs}))
    graph = sweep_graph("swept")
    nodes = [assets.evals.sweep.sweep_node(graph, name) for name in assets.evals.sweep.SWEEP]
    swept = [build_asset(graph, node) for node in nodes]
    return assembled(main_line(training_graph()), dg.Definitions(assets=swept), *toys)
"""


def training_graph() -> Graph:
    empty = Tree({}, file="toy.yaml")
    recipe = Recipe(
        name="tiny", folder=Path("toy"), corpus=empty, stage1=empty, stage2=empty, evals=empty
    )
    node = Node(
        recipe="tiny",
        name="stage1",
        stage="train",
        description="One run.",
        module="tests.slurm.paced_training",
        config={"steps": STEPS},
        distributed=True,
        render=_render,
    )
    return Graph(recipe=recipe, nodes={"stage1": node})


def _render(node: Node, inputs: Mapping[str, Path], folder: Path) -> Mapping[str, Any]:
    config = yaml.safe_load(CONFIG)
    config |= {
        "save_folder": str(folder),
        "max_duration": STEPS,
        "stop_at": STEPS,
        "save_interval": STEPS,
        "global_train_batch_size": 16,
        "wandb": {"project": "toy"},
    }
    config["data"]["paths"] = [str(tokens())]
    return config


def tokens() -> Path:
    return root() / "tokens.npy"


def prepare(folder: Path, *, pace_seconds: float) -> None:
    """Make what the training reads, and set its pace in the folder that holds its run folders."""
    folder.mkdir(parents=True)
    (folder / "pace").write_text(str(pace_seconds))
    ids = np.random.default_rng(0).integers(2, 100, 20_000)
    np.array(ids, dtype="<u2").tofile(tokens())
