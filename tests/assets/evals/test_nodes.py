"""What the evaluations of a recipe are made of, and what they lack on this machine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from assets.assemble import build_graph
from assets.evals.sweep import sweep_node
from assets.graph import Graph
from assets.recipe import load_recipe
from pipelines.cli.plan import print_plan
from tests.conftest import printed


@pytest.fixture
def scoring(copy: Path) -> Callable[..., Graph]:
    """The graph of the copy, with these tasks."""

    def graph(*tasks: dict[str, str]) -> Graph:
        evals = yaml.safe_load((copy / "evals.yaml").read_text())
        evals["downstream"] = {"tasks": list(tasks)}
        (copy / "evals.yaml").write_text(yaml.safe_dump(evals))
        return build_graph(load_recipe("mine"))

    return graph


def test_task_data_that_is_not_here_blocks_downstream_alone(
    scoring: Callable[..., Graph],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    graph = scoring({"name": "olmo1_copa"}, {"name": "olmo1_truthfulqa"})
    assert print_plan("mine", []) == 1
    said = printed(capsys)
    assert "downstream: blocked not here: truthfulqa: data set truthfulqa/truthful_qa: " in said
    assert "stage1: missing, because of its input" in said
    [line] = sweep_node(graph, "checkpoint_downstream").lacks()
    assert "hf download truthfulqa/truthful_qa multiple_choice/validation-" in line
    assert graph.nodes["perplexity"].lacks() == []
    snapshot = tmp_path / "hub/datasets--truthfulqa--truthful_qa/snapshots" / ("0" * 40)
    (snapshot / "multiple_choice").mkdir(parents=True)
    (snapshot / "multiple_choice/validation-00000-of-00001.parquet").write_bytes(b"x")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0" * 40)
    assert graph.nodes["downstream"].lacks() == []
    assert print_plan("mine", []) == 0


def test_where_the_file_of_an_own_task_lies_makes_nothing_stale(
    scoring: Callable[..., Graph], tmp_path: Path
) -> None:
    file = tmp_path / "sums.yaml"
    file.write_text("task: sums\n")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere/sums.yaml"
    shutil.copy(file, moved)
    before, after = (
        scoring({"name": "sums", "file": str(path)}).fingerprints["downstream"].value
        for path in (file, moved)
    )
    assert before == after
    moved.write_text("task: sums\nnum_fewshot: 1\n")
    graph = scoring({"name": "sums", "file": str(moved)})
    assert graph.fingerprints["downstream"].value != before
