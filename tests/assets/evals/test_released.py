"""The asset `models` of a recipe that names models of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import yaml

from assets.assemble import build_graph
from assets.evals.sweep import sweep_node
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from pipelines.cli.plan import print_plan
from tests.conftest import printed

COMMIT = "8f" * 20


@pytest.fixture
def comparing(copy: Path) -> Callable[..., Graph]:
    """The graph of the copy, with this section."""

    def graph(models: Any) -> Graph:
        evals = yaml.safe_load((copy / "evals.yaml").read_text())
        (copy / "evals.yaml").write_text(yaml.safe_dump({**evals, "models": models}))
        return build_graph(load_recipe("mine"))

    return graph


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "olmo2"}))
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


def test_without_the_section_nothing_changes(
    copy: Path, comparing: Callable[..., Graph], tmp_path: Path
) -> None:
    before = build_graph(load_recipe("mine"))
    empty = comparing({})
    assert list(empty.nodes) == list(before.nodes)
    values = {name: found.value for name, found in before.fingerprints.items()}
    assert {name: found.value for name, found in empty.fingerprints.items()} == values
    folder = write_model(tmp_path / "model")
    after = comparing({"theirs": {"folder": str(folder)}})
    changed = {
        name for name, found in after.fingerprints.items() if values.get(name) != found.value
    }
    assert changed == {"models", "perplexity", "downstream", "leaderboard", "model_card"}
    assert "models" not in sweep_node(after, "checkpoint_downstream").inputs
    assert (
        sweep_node(after, "checkpoint_downstream").identity()
        == sweep_node(before, "checkpoint_downstream").identity()
    )


def test_where_a_folder_lies_makes_nothing_stale_and_its_content_does(
    comparing: Callable[..., Graph], tmp_path: Path
) -> None:
    one, two = write_model(tmp_path / "one"), write_model(tmp_path / "two")
    before, moved = (
        comparing({"theirs": {"folder": str(folder)}}).fingerprints["downstream"].value
        for folder in (one, two)
    )
    assert before == moved
    (two / "tokenizer.json").write_text("another")
    assert comparing({"theirs": {"folder": str(two)}}).fingerprints["downstream"].value != before


def test_a_model_that_is_not_here_blocks_its_asset_alone(
    comparing: Callable[..., Graph],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    comparing({"olmo": {"hub": "someone/else", "revision": COMMIT}})
    assert print_plan("mine", []) == 1
    said = printed(capsys)
    assert "models: blocked not here: olmo: someone/else at 8f8f" in said
    assert "hf download someone/else --revision 8f8f" in said
    assert "stage1: missing, because of its input" in said
    write_model(tmp_path / "hub/models--someone--else/snapshots" / COMMIT)
    assert print_plan("mine", []) == 0


def test_a_malformed_section_is_named_with_its_line(comparing: Callable[..., Graph]) -> None:
    with pytest.raises(ConfigError, match=r"evals\.yaml: models\.olmo\.revision: missing"):
        comparing({"olmo": {"hub": "someone/else"}})
    with pytest.raises(ConfigError, match=r"evals\.yaml:\d+: models: "):
        comparing(["someone/else"])
