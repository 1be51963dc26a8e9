"""One change at a time to the recipe tiny, its code and where it runs: what the plan says of each.

Every asset has a finished run, without a job. Each change makes stale what is named here and all
that is made from it, and nothing else; a change that decides no byte makes nothing stale.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from assets import fingerprint
from assets.assemble import build_graph
from assets.graph import Graph
from assets.recipe import load_recipe
from assets.staleness import AssetState, asset_states
from olmo_core.run import code
from olmo_core.run.code import PACKAGE_ROOT, sources
from tests.assets.made import make_all, unchecked
from tests.assets.recipe_files import TINY

TRAINING = ("stage1", "stage2_ingredient1", "stage2_ingredient2")
SCHEDULE = "code olmo_core.optim.schedule: "


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Another text in a file, and which assets are stale by it themselves, with the line of each.

    A file of the recipe is named alone, one of the code with its folders.
    """

    what: str
    file: str
    old: str
    new: str
    stale: Mapping[str, str]


def same(line: str, *assets: str) -> dict[str, str]:
    return dict.fromkeys(assets, line)


CHANGES = [
    Edit(
        what="a tagger",
        file="corpus.yaml",
        old="licences: [pii_regex_with_counts_fast_v2]",
        new="licences: [pii_regex_with_counts_fast_v2, c4_v2]",
        stale={"tagged": 'config taggers.licences[1]: absent → "c4_v2"'},
    ),
    Edit(
        what="a threshold of near duplicates",
        file="corpus.yaml",
        old="near_duplicates: {}",
        new="near_duplicates: {threshold: 0.8}",
        stale={"near_duplicates": "config threshold: 0.7 → 0.8"},
    ),
    Edit(
        what="a bound of a rule",
        file="corpus.yaml",
        old="attribute: duplicates__paragraphs, above: 0.6",
        new="attribute: duplicates__paragraphs, above: 0.5",
        stale={"filtered": "config rules.docstrings[2].above: 0.6 → 0.5"},
    ),
    Edit(
        what="how much is held out",
        file="corpus.yaml",
        old="max_domain_bytes: 24_000",
        new="max_domain_bytes: 25_000",
        stale={"held_out": "config max_domain_bytes: 24000 → 25000"},
    ),
    Edit(
        what="bytes of a source",
        file="corpus.yaml",
        old="max_bytes: 400_000",
        new="max_bytes: 390_000",
        stale={"raw": "config sources[1].max_bytes: 400000 → 390000"},
    ),
    Edit(
        what="a repetition in a mix",
        file="corpus.yaml",
        old="docstrings: {repetitions: 2}",
        new="docstrings: {repetitions: 3}",
        stale={"stage2_mix": "config sources.docstrings.repetitions: 2.0 → 3.0"},
    ),
    Edit(
        what="a learning rate",
        file="stage1.yaml",
        old="learning_rate: 8e-3",
        new="learning_rate: 7e-3",
        stale={"stage1": "config optimizer.learning_rate: 0.008 → 0.007"},
    ),
    Edit(
        what="a seed",
        file="stage2.yaml",
        old="{seed: 42069}",
        new="{seed: 42070}",
        stale={"stage2_ingredient2": "config seed: 42069 → 42070"},
    ),
    Edit(
        what="the weights of a soup",
        file="evals.yaml",
        old="soup: {}",
        new="soup: {weights: [0.25, 0.75]}",
        stale={"soup": "config weights"},
    ),
    Edit(
        what="the type of exported weights",
        file="evals.yaml",
        old="parity_sequences: 2",
        new="dtype: bfloat16\n  parity_sequences: 2",
        stale={"export": 'config dtype: "float32" → "bfloat16"'},
    ),
    Edit(
        what="a task",
        file="evals.yaml",
        old="    - {name: openbookqa, limit: 4}\n",
        new="    - {name: openbookqa, limit: 4}\n    - {name: arc_easy, limit: 4}\n",
        stale={"downstream": 'config tasks[2].name: absent → "arc_easy"'},
    ),
    Edit(
        what="the limit of a task",
        file="evals.yaml",
        old="{name: copa, limit: 8}",
        new="{name: copa, limit: 7}",
        stale={"downstream": "config tasks[0].limit: 8 → 7"},
    ),
    Edit(
        what="the text that is scored",
        file="evals.yaml",
        old="bytes_per_source: 15_000",
        new="bytes_per_source: 14_000",
        stale={"perplexity": "config bytes_per_source: 15000 → 14000"},
    ),
    Edit(
        what="the licence on the model card",
        file="evals.yaml",
        old="title: Tiny\n",
        new="title: Tiny\n  license: mit\n",
        stale={"model_card": 'config license: "apache-2.0" → "mit"'},
    ),
    Edit(
        what="a line of the core",
        file="olmo_core/optim/schedule.py",
        old="(1 + math.cos(math.pi * done)) / 2",
        new="(1 + math.cos(math.pi * done**2)) / 2",
        stale=same(f"{SCHEDULE}function Schedule._decay changed", *TRAINING),
    ),
    Edit(
        what="an import that shadows another",
        file="olmo_core/optim/schedule.py",
        old="import math\n",
        new="import cmath as math\n",
        stale=same(f"{SCHEDULE}imports changed", *TRAINING),
    ),
    Edit(
        what="a line of the corpus",
        file="olmo_core/corpus/duplicates/held_out.py",
        old="round(config.share * documents)",
        new="int(config.share * documents)",
        stale={"held_out": "code olmo_core.corpus.duplicates.held_out: function wanted changed"},
    ),
    Edit(
        what="a constant of an evaluation",
        file="olmo_core/evals/harness.py",
        old="FEWSHOT_SEED = 1234",
        new="FEWSHOT_SEED = 4321",
        stale={"downstream": "code olmo_core.evals.harness: top level changed"},
    ),
    # From here on nothing is stale.
    Edit(
        what="a comment in the recipe",
        file="stage1.yaml",
        old="seed: 6198\n",
        new="seed: 6198 # as OLMo's\n",
        stale={},
    ),
    Edit(what="the name of a run", file="stage1.yaml", old="tiny-stage1", new="other", stale={}),
    Edit(
        what="how often a run saves",
        file="stage1.yaml",
        old="save_interval: 20",
        new="save_interval: 10",
        stale={},
    ),
    Edit(
        what="how a step is placed",
        file="stage1.yaml",
        old="precision: fp32",
        new="precision: fp32\ndistributed_strategy: ddp\nactivation_checkpointing: whole_layer",
        stale={},
    ),
    Edit(
        what="threads and power of a device",
        file="stage1.yaml",
        old="core:\n",
        new="core:\n  threads: 3\n  power_watts: 400\n",
        stale={},
    ),
    Edit(
        what="who watches",
        file="stage2.yaml",
        old="save_interval: 1000",
        new="save_interval: 1000\nwandb: {project: p, entity: e}\nspeed_monitor: {window_size: 7}",
        stale={},
    ),
    Edit(
        what="a default that only places",
        file="olmo_core/config/placement.py",
        old="window_size: int = at_least(1, default=100)",
        new="window_size: int = at_least(1, default=50)",
        stale={},
    ),
    Edit(
        what="a comment in the core",
        file="olmo_core/optim/schedule.py",
        old="import math\n",
        new="import math  # of floats\n",
        stale={},
    ),
    Edit(
        what="how imports stand",
        file="olmo_core/optim/schedule.py",
        old="import math\n",
        new="\n\nimport math\n",
        stale={},
    ),
    Edit(
        what="a docstring",
        file="olmo_core/data/order.py",
        old='"""',
        new='"""Edited. ',
        stale={},
    ),
    Edit(
        what="what an error says",
        file="olmo_core/data/order.py",
        old="there must be at least one",
        new="one at least",
        stale={},
    ),
    Edit(
        what="what the log says",
        file="olmo_core/train/trainer.py",
        old='log.info("',
        new='log.info("now: ',
        stale={},
    ),
    Edit(
        what="a launcher's code",
        file="olmo_core/supervisor/supervise.py",
        old='"""',
        new='EDITED = 1\n"""',
        stale={},
    ),
    Edit(
        what="a line of evaluation during training",
        file="olmo_core/train/in_loop.py",
        old="import",
        new="EDITED = 1\nimport",
        stale={},
    ),
]


@dataclass(frozen=True, kw_only=True)
class World:
    """A copy of tiny and of the code, and a root in which all has been made."""

    recipe: Path
    code: Path
    root: Path

    def graph(self) -> Graph:
        """The graph as files stand now."""
        sources.cache_clear()
        return unchecked(build_graph(load_recipe("mine")))

    def states(self, graph: Graph | None = None, root: Path | None = None) -> dict[str, AssetState]:
        graph = graph or self.graph()
        return asset_states(graph, root or self.root, graph.nodes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    made = World(recipe=folder / "recipes" / "mine", code=folder / "code", root=folder / "root")
    shutil.copytree(TINY, made.recipe)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE_ROOT / "olmo_core", made.code / "olmo_core", ignore=ignored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLMO_RECIPES", str(made.recipe.parent))
        patch.setenv("OLMO_ROOT", str(made.root))
        patch.setattr(code, "PACKAGE_ROOT", made.code)
        make_all(made.graph(), made.root)
        yield made
    sources.cache_clear()


def descendants(graph: Graph, names: Mapping[str, str]) -> set[str]:
    found = set(names)
    for name, node in graph.nodes.items():
        if found & set(node.inputs):
            found.add(name)
    return found


def require(world: World, stale: Mapping[str, str]) -> None:
    """The plan names these and what is made from them, these alone with a cause of their own."""
    graph = world.graph()
    states = world.states(graph)
    behind = {name: state for name, state in states.items() if not state.up_to_date}
    assert set(behind) == descendants(graph, stale)
    assert {state.state for state in behind.values()} <= {"stale"}
    for name, state in behind.items():
        if name in stale:
            assert any(line.startswith(stale[name]) for line in state.why), (name, state.why)
        else:
            assert not state.changes, (name, state.why)
            assert state.inputs
            assert set(state.inputs) <= set(behind)


def test_the_table_is_of_thirty_changes_and_more() -> None:
    assert len(CHANGES) >= 30
    assert len({edit.what for edit in CHANGES}) == len(CHANGES)


@pytest.mark.parametrize("edit", CHANGES, ids=lambda edit: edit.what)
def test_a_change_makes_stale_what_it_can_change_and_says_why(world: World, edit: Edit) -> None:
    path = world.code / edit.file if "/" in edit.file else world.recipe / edit.file
    before = path.read_text()
    assert edit.old in before, f"{path}: the text to edit is not there any more; choose another"
    path.write_text(before.replace(edit.old, edit.new, 1))
    try:
        require(world, edit.stale)
    finally:
        path.write_text(before)


def test_another_version_of_a_package_makes_stale_what_it_matters_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fingerprint.package_version
    monkeypatch.setattr(
        fingerprint, "package_version", lambda name: "0.1" if name == "lm_eval" else real(name)
    )
    require(world, {"downstream": f'packages lm_eval: "{real("lm_eval")}" → "0.1"'})


SITE = """
slurm: {{partition: {partition}}}
prices: {{currency: EUR, per_device_hour: {price}}}
energy: {{watts_per_device: {watts}, pue: 1.2, carbon_intensity_kg_per_kwh: 0.3}}
work:
  stage1: {{engine: slurm, processes_per_node: {processes}, devices_per_node: {processes}}}
  tokens: {{engine: slurm, workers: {workers}}}
"""


def test_where_it_runs_and_what_that_costs_make_nothing_stale(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_SITE", str(tmp_path / "site.yaml"))
    site = {"partition": "gpu", "price": 2.5, "watts": 400, "processes": 8, "workers": 15}
    for further in ({}, {"partition": "a"}, {"price": 3}, {"watts": 9}, {"workers": 2}):
        (tmp_path / "site.yaml").write_text(SITE.format(**{**site, **further}))
        require(world, {})
    monkeypatch.setenv("OLMO_PROCESSES", "3")
    monkeypatch.setenv("OLMO_WORKERS", "2")
    require(world, {})


def test_another_root_and_another_folder_of_recipes_make_nothing_stale(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world.root, tmp_path / "root")
    shutil.copytree(world.recipe.parent, tmp_path / "recipes")
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    states = world.states(root=tmp_path / "root")
    assert {state.state for state in states.values()} == {"up to date"}


def test_a_copy_of_another_name_reuses_everything_and_says_from_where(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.recipe.parent / "copy").mkdir()
    (world.recipe.parent / "copy" / "recipe.yaml").write_text("extends: mine\n")
    graph = unchecked(build_graph(load_recipe("copy")))
    states = world.states(graph)
    assert {(state.state, state.reused_from) for state in states.values()} == {
        ("up to date", "mine")
    }
