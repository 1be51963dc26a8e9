"""`olmo plan`: the state of every asset as a tree, causes at their roots, and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.graph import Graph
from assets.node import Verdict, check
from assets.recipe import Recipe
from assets.staleness import AssetState, asset_states
from olmo_core.run.folder import RunFolder, locked
from pipelines.cli import plan
from tests.assets.made import make_all, make_one
from tests.conftest import printed, toy_graph


def chain(**configs: Mapping[str, Any]) -> Graph:
    """`first` → `second` → `third`, which is made from both."""
    graph = toy_graph(**configs)
    second = graph.nodes["second"]
    third = replace(second, name="third", inputs=("first", "second"), stage="evals", config={})
    return replace(graph, nodes={**graph.nodes, "third": third})


def shown(graph: Graph, root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The tree, as it is printed."""
    states = [*asset_states(graph, root, graph.nodes).values()]
    plan.terminal().print(plan.tree(graph, states, []), soft_wrap=False)
    return printed(capsys)


def test_what_is_up_to_date_is_a_line_per_stage(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_all(chain(), toy_root)
    assert shown(chain(), toy_root, capsys) == (
        "toy: 3 up to date corpus up to date: first, second evals up to date: third"
    )


def test_a_cause_stands_at_its_root_alone(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_all(chain(first={"value": 1}), toy_root)
    changed = chain(first={"value": 2, "more": [1, 2]})
    assert shown(changed, toy_root, capsys) == (
        "toy: 3 stale "
        "corpus first: stale config more[0]: absent → 1 config more[1]: absent → 2 "
        "config value: 1 → 2 "
        "second: stale, because of its input first "
        "evals third: stale, because of its input second"  # which is made from the first
    )
    states = asset_states(changed, toy_root, ["third"])
    assert states["third"].changes == ()
    assert states["third"].why == ["because of its input second"]


def test_a_cause_that_several_have_is_told_once(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_all(chain(), toy_root)
    changed = chain(first={"value": 2}, second={"value": 2})
    said = shown(changed, toy_root, capsys)
    assert said.count("config value: absent → 2") == 1
    assert "second: stale, by the same change as first, because of its input first" in said


def test_an_input_that_has_been_made_anew_is_named_with_both_versions(toy_root: Path) -> None:
    before, changed = chain(), chain(first={"value": 2})
    make_all(before, toy_root)
    make_one(changed, toy_root, "first")
    old, new = (graph.fingerprints["first"].version for graph in (before, changed))
    states = asset_states(changed, toy_root, changed.nodes)
    assert states["first"].up_to_date
    assert states["second"].why == [f"input first: {old} → {new}"]
    assert states["third"].why == [
        f"input first: {old} → {new}",
        "because of its input second",
    ]


def test_an_input_made_again_with_other_bits_is_named_by_their_digests(toy_root: Path) -> None:
    graph = chain()
    make_all(graph, toy_root)
    make_one(graph, toy_root, "first", digest="0123456789abcdef")
    old = graph.fingerprints["first"].value[:12]
    states = asset_states(graph, toy_root, graph.nodes)
    assert states["second"].why == [f"input first: {old} → 0123456789ab"]


def test_what_was_never_built_says_so_and_waits_for_its_inputs(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(chain(), toy_root, capsys) == (
        "toy: 3 missing corpus first: missing, never built "
        "second: missing, because of its input first evals third: missing, because of its "
        "input second"
    )


def test_a_job_at_work_is_named_with_its_step(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = chain()
    run = RunFolder(graph.folder(toy_root, "first") / graph.fingerprints["first"].version)
    run.path.mkdir(parents=True)
    about = {"schema_version": 1, "engine": "slurm", "job_id": "17"}
    run.launch.write_text(json.dumps(about))
    status = {"schema_version": 1, "step": 1200, "done": 5000, "total": 9000, "unit": "tokens"}
    run.status.write_text(json.dumps(status))
    with locked(run.path / "job.lock"):
        said = shown(graph, toy_root, capsys)
        state = asset_states(graph, toy_root, ["first"])["first"]
    assert "first: running (slurm job 17, step 1,200, 5k/9k tokens) " in said
    assert plan.entry(graph, state)["job"] == {
        **{key: status[key] for key in ("step", "done", "total", "unit")},
        "engine": "slurm",
        "job_id": "17",
    }
    assert "second: missing, because of its input first" in said


def test_a_failed_check_blocks_what_follows(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_one(chain(), toy_root, "first")
    graph = chain()
    sound = check("Sound.")(lambda finished: Verdict(False, "[1] is none"))
    sound = replace(sound, name="sound")
    graph = replace(
        graph, nodes={**graph.nodes, "first": replace(graph.nodes["first"], checks=(sound,))}
    )
    said = shown(graph, toy_root, capsys)
    assert "first: check failed check sound: [1] is none" in said
    assert "second: blocked by first: check sound: [1] is none" in said


def test_json_is_a_list_of_all_assets_with_every_change(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_all(chain(second={"value": None}), toy_root)
    changed = chain(second={"more": [], "value": 1.0})

    def graph_of(recipe: Recipe) -> Graph:
        return changed

    def recipe_of(name: str) -> Recipe:
        return changed.recipe

    monkeypatch.setattr(plan, "build_graph", graph_of)
    monkeypatch.setattr(plan, "load_recipe", recipe_of)
    assert plan.print_plan("toy", [], as_json=True) == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["state"], first["changes"], first["why"]) == ("up to date", [], [])
    assert second["changes"] == [
        {
            "area": "config",
            "what": "more",
            "definitions": [],
            "line": "config more: absent → []",
            "new": [],
        },
        {
            "area": "config",
            "what": "value",
            "definitions": [],
            "line": "config value: null → 1.0",
            "old": None,
            "new": 1.0,
        },
    ]
    assert (third["inputs"], third["stage"]) == (["second"], "evals")
    assert third["path"].startswith(str(toy_root / "toy" / "third"))


def test_partitions_of_one_cause_are_one_line(
    toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = [
        AssetState(asset="checkpoint_perplexity", partition="stage1@step1", state="up to date"),
        AssetState(asset="checkpoint_perplexity", partition="stage1@step2", state="missing"),
        AssetState(asset="checkpoint_perplexity", partition="stage1@step3", state="missing"),
    ]
    plan.terminal().print(plan.tree(chain(), [], swept), soft_wrap=False)
    assert printed(capsys).endswith(
        "sweep checkpoint_perplexity: 1 up to date, 2 missing "
        "stage1@step2, stage1@step3: missing, never built"
    )
