"""Which figures of the store count for a recipe as it stands, in a table and over tokens."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.assemble import build_graph
from assets.evals.board import Board, make_board, ordered
from assets.evals.curves import Curves, make_curves
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.evals.rows import ModelFacts
from olmo_core.evals.store.read import open_results
from tests.olmo_core.evals.store.evaluations import checkpoint, evaluate, figure
from tests.olmo_core.evals.store.runs import end

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def graph(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    graph = build_graph(load_recipe("tiny"))
    for version in (graph.fingerprints["stage1"].version, "ffffffffffff"):
        began_from(graph, toy_root, "stage1", None, version=version)
    for name in ("stage2_ingredient1", "soup"):
        began_from(graph, toy_root, name, {"model_sha256": "weights of stage1"})
    return graph


def began_from(
    graph: Graph, root: Path, name: str, parent: dict[str, Any] | None, version: str | None = None
) -> None:
    """Leave a run that says what it began from, having read 9000 tokens; its parent is stage 1."""
    stage1 = graph.folder(root, "stage1") / graph.fingerprints["stage1"].version
    run = graph.folder(root, name) / (version or graph.fingerprints[name].version)
    run.mkdir(parents=True, exist_ok=True)
    inputs = {"stage1": {"root": "own", "path": str(stage1.relative_to(root))}} if parent else {}
    end(run, inputs, {"tokens": 9000, "parent": parent, "first_step": 0})


def exported(graph: Graph, *names: str, step: int = 9) -> list[ModelFacts]:
    """Models of the main line, of the runs of the recipe as it stands."""
    return [
        replace(
            checkpoint(step, recipe="tiny", run=graph.fingerprints[name].version),
            model=name,
            sha256=name,
        )
        for name in names
    ]


def evaluate_models(graph: Graph, root: Path, *models: ModelFacts, **fields: Any) -> Path:
    """End the evaluation of the main line's models as the recipe stands."""
    identity = graph.fingerprints["downstream"]
    known = {"recipe": "tiny", "version": identity.version, "fingerprint": identity.value}
    return evaluate(root, *models, **{**known, **fields}).path


def swept(graph: Graph, root: Path, step: int, value: float, **fields: Any) -> None:
    """End the evaluation of a checkpoint of stage 1 as the recipe stands."""
    run = fields.pop("run", graph.fingerprints["stage1"].version)
    model = checkpoint(step, recipe="tiny", run=run)
    known = {"recipe": "tiny", "figures": (figure("copa", value, **fields),)}
    evaluate(root, model, version=f"{run}x", **known)


def board(graph: Graph, root: Path, *, checkpoints: bool = False) -> Board:
    return make_board([graph], open_results(root), root, checkpoints=checkpoints)


def lines(board: Board) -> list[tuple[str, Sequence[str]]]:
    """Names and figures of the models that are not published."""
    return [
        (model.name, [board.text(model, column) for column in board.columns])
        for model in board.models
        if model.recipe != "published"
    ]


def test_models_stand_in_the_order_of_the_graph_with_their_errors(
    graph: Graph, toy_root: Path
) -> None:
    models = exported(graph, "stage1", "stage2_ingredient1", "soup")
    evaluate_models(graph, toy_root, *models[::-1])
    assert lines(board(graph, toy_root)) == [
        (name, ["0.500 ± 0.050"]) for name in ("stage1", "stage2_ingredient1", "soup")
    ]


def test_figures_of_an_earlier_state_are_shown_with_a_note_and_pruned_ones_without(
    graph: Graph, toy_root: Path
) -> None:
    models = exported(graph, "stage1", "soup")
    evaluate(toy_root, *models, recipe="tiny", figures=(figure("copa", 0.1),))
    shown = board(graph, toy_root)
    assert [texts for _, texts in lines(shown)] == [["0.100 ± 0.050"]] * 2
    assert "tiny: downstream is of an earlier state" in shown.notes[0]
    shutil.rmtree(evaluate_models(graph, toy_root, *models))
    shown = board(graph, toy_root)
    assert [texts for _, texts in lines(shown)] == [["0.500 ± 0.050"]] * 2
    assert shown.notes == []


def test_an_older_evaluation_counts_again_when_the_recipe_is_as_it_was(
    graph: Graph, toy_root: Path
) -> None:
    models = exported(graph, "stage1", "soup")
    evaluate_models(graph, toy_root, *models)
    evaluate(toy_root, *models, recipe="tiny", figures=(figure("copa", 0.1),))  # later, otherwise
    assert [texts for _, texts in lines(board(graph, toy_root))] == [["0.500 ± 0.050"]] * 2


def test_what_another_recipe_has_made_of_the_same_counts(graph: Graph, toy_root: Path) -> None:
    models = exported(graph, "stage1", "soup")
    evaluate_models(graph, toy_root, *models, recipe="copy")
    assert [name for name, _ in lines(board(graph, toy_root))] == ["stage1", "soup"]


def test_a_name_of_two_runs_is_two_lines(graph: Graph, toy_root: Path) -> None:
    [now] = exported(graph, "stage1")
    before = replace(now, run="ffffffffffff")
    rows = [model.row(**figure()) for model in (now, before)]
    found = ordered(graph, [{**row, "task_sha256": "x", "tokens_in_all": 9000} for row in rows])
    assert [model.name for model in found] == ["stage1", "stage1"]
    assert [len(model.figures) for model in found] == [1, 1]


def test_cut_prompts_are_marked_and_others_models_stand_last_with_a_note(
    graph: Graph, toy_root: Path
) -> None:
    [stage1] = exported(graph, "stage1")
    facts = {"run": None, "recipe": None, "seed": None, "step": None}
    other = replace(stage1, model="olmo_1b", revision="main@0123456789ab", **facts)
    evaluate_models(graph, toy_root, other, stage1, figures=(figure(truncated=3),))
    shown = board(graph, toy_root)
    assert lines(shown) == [(name, ["0.500 ± 0.050 †"]) for name in ("stage1", "olmo_1b")]
    cut, released = shown.notes
    assert cut.endswith("to fit the model's context: copa.")
    assert released.startswith("Released by others, scored here: olmo_1b (main@0123456789ab). ")


def test_checkpoints_are_of_the_runs_as_they_stand_by_step(graph: Graph, toy_root: Path) -> None:
    for step in (100, 20):
        swept(graph, toy_root, step, step / 1000)
    swept(graph, toy_root, 20, 0.9, run="ffffffffffff")  # of an earlier version of the recipe
    assert lines(board(graph, toy_root)) == []
    expected = [("stage1@step20", ["0.020 ± 0.050"]), ("stage1@step100", ["0.100 ± 0.050"])]
    assert lines(board(graph, toy_root, checkpoints=True)) == expected
    repeat = f"{graph.fingerprints['stage1'].version}.2"
    swept(graph, toy_root, 20, 0.7, run=repeat)
    expected = [("stage1@step20", ["0.700 ± 0.050"])]
    assert lines(board(graph, toy_root, checkpoints=True)) == expected


def test_figures_that_do_not_compare_are_marked_and_in_no_curve(
    graph: Graph, toy_root: Path
) -> None:
    for step, limit in ((10, 40), (20, 100), (30, 100)):
        swept(graph, toy_root, step, 0.5, limit=limit)
    shown = board(graph, toy_root, checkpoints=True)
    assert [texts for _, texts in lines(shown)] == [
        ["0.500 ± 0.050"],
        ["0.500 ± 0.050 ‡"],
        ["0.500 ± 0.050 ‡"],
    ]
    [note] = shown.notes
    assert note.endswith("not to be compared with it: copa.")
    drawn = curves(graph, toy_root)
    [curve] = drawn.panels[0].curves
    assert curve.tokens == [20_000, 30_000]
    assert drawn.notes[0].startswith("1 figures are left out")


def test_a_value_that_is_no_number_is_in_no_curve_and_counted(graph: Graph, toy_root: Path) -> None:
    for step, value in ((10, 0.5), (20, math.nan)):
        swept(graph, toy_root, step, value, stderr=math.nan)
    drawn = curves(graph, toy_root)
    [curve] = drawn.panels[0].curves
    assert (curve.tokens, curve.bands()) == ([10_000], [(0.5, 0.5)])
    assert drawn.notes == ["1 figures are left out: their values are no finite numbers"]


def curves(graph: Graph, root: Path, *tasks: str) -> Curves:
    return make_curves([graph], open_results(root), root, tasks)


def test_a_curve_is_of_a_run_with_the_exported_model_at_its_end(
    graph: Graph, toy_root: Path
) -> None:
    for step in (5, 7):
        swept(graph, toy_root, step, step / 10)
    evaluate_models(graph, toy_root, *exported(graph, "stage1", "soup"))
    [panel] = curves(graph, toy_root, "copa").panels
    assert (panel.title, panel.label) == ("copa", "acc")
    stage1, soup = panel.curves
    assert (soup.name, soup.tokens, soup.values) == ("soup", [9000 + 9000], [0.5])
    assert (stage1.name, stage1.tokens) == ("stage1", [5000, 7000, 9000])
    assert stage1.values == [0.5, 0.7, 0.5]
    assert stage1.errors == [0.05] * 3
    with pytest.raises(ConfigError, match="no figure of 'cop'; did you mean 'copa'"):
        curves(graph, toy_root, "cop")


def test_table_and_curves_agree_on_tokens_and_guess_none(graph: Graph, toy_root: Path) -> None:
    evaluate_models(graph, toy_root, *exported(graph, "stage1", "stage2_ingredient1"))
    shown = board(graph, toy_root)
    assert [(model.tokens, model.own_tokens) for model in shown.models] == [
        *((9000, 9000), (18_000, 9000)),
    ]
    assert shown.notes == []
    began_from(graph, toy_root, "stage2_ingredient1", {"model_sha256": "of others"})
    shown, drawn = board(graph, toy_root), curves(graph, toy_root)
    assert [(model.tokens, model.own_tokens) for model in shown.models] == [
        *((9000, 9000), (None, 9000)),
    ]
    assert [curve.tokens for curve in drawn.panels[0].curves] == [[9000], [9000]]
    assert shown.notes[0].endswith("(of others, or of a run that is gone): stage2_ingredient1.")
    assert drawn.notes[0].startswith("stage2_ingredient1: drawn over the tokens of the run alone")


def trained(graph: Graph, root: Path, *figures: tuple[int, float], asked: str = "a") -> None:
    """Let stage 1 have found COPA's accuracy while it trained, in steps of 1000 tokens."""
    run = graph.folder(root, "stage1") / graph.fingerprints["stage1"].version
    (run / "config.yaml").write_text(
        "seed: 1\nglobal_train_batch_size: 10\nmodel: {max_sequence_length: 100}\n"
        "evaluators:\n- {label: copa, type: downstream}\n"
    )
    name = "eval/downstream/copa_acc"
    rows: list[dict[str, Any]] = [{"step": 1, "throughput/total_tokens": 1000, "time": 1.0}]
    for step, value in figures:
        record = {"failed": {}, "asked": {name: asked}, "documents": {name: 40}}
        told = {"attempt": 1, "time": 100.0 + step}
        rows.append({"step": step, name: value, "evaluation": record, **told})
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.writelines(f"{json.dumps(row)}\n" for row in rows)


def test_what_a_run_found_while_it_trained_is_a_curve_of_its_own_and_in_no_table(
    graph: Graph, toy_root: Path
) -> None:
    swept(graph, toy_root, 5, 0.5)
    evaluate_models(graph, toy_root, *exported(graph, "stage1", "soup"))
    trained(graph, toy_root, (3, 0.25), (6, 0.75))
    in_loop, copa = sorted(curves(graph, toy_root).panels, key=lambda panel: -len(panel.title))
    assert (in_loop.title, in_loop.label) == ("in_loop_copa", "acc")
    [curve] = in_loop.curves
    assert (curve.name, curve.label) == ("stage1", "stage1, in loop")
    assert (curve.tokens, curve.values, curve.errors) == ([3000, 6000], [0.25, 0.75], [None] * 2)
    assert [each.in_loop for each in copa.curves] == [False, False]
    shown = board(graph, toy_root, checkpoints=True)
    assert [title for title, _, _ in shown.columns] == ["copa"]
    assert [model.name for model in shown.models] == ["stage1", "soup", "stage1@step5"]


def test_the_same_task_of_checkpoints_and_in_loop_is_one_panel(
    graph: Graph, toy_root: Path
) -> None:
    run = graph.fingerprints["stage1"].version
    scored = (figure("in_loop_copa", 0.5),)
    evaluate(toy_root, checkpoint(5, recipe="tiny", run=run), recipe="tiny", figures=scored)
    trained(graph, toy_root, (3, 0.25))
    [panel] = curves(graph, toy_root, "in_loop_copa").panels
    assert [(each.label, each.tokens) for each in panel.curves] == [
        *(("stage1", [5000]), ("stage1, in loop", [3000])),
    ]


def test_in_loop_figures_that_were_asked_otherwise_are_in_no_curve_and_counted(
    graph: Graph, toy_root: Path
) -> None:
    trained(graph, toy_root, (3, 0.25), asked="fewer documents")
    trained(graph, toy_root, (6, 0.75))
    drawn = curves(graph, toy_root)
    [curve] = drawn.panels[0].curves
    assert curve.tokens == [6000]
    assert drawn.notes[-1].startswith("1 in-loop figures are left out: they were asked otherwise")


def test_published_models_stand_below_where_they_have_a_figure(
    graph: Graph, toy_root: Path
) -> None:
    scored = figure("olmo1_copa", 0.5, headline=True, chance=0.5)
    evaluate_models(graph, toy_root, *exported(graph, "stage1", "soup"), figures=(scored,))
    shown = board(graph, toy_root)
    assert [name for name, _ in lines(shown)] == ["chance", "stage1", "soup"]
    peers = {
        m.name: shown.text(m, shown.columns[0]) for m in shown.models if m.recipe == "published"
    }
    assert len(peers) == 9
    assert peers["Llama 2 7B"] == "0.870"
    assert "https://huggingface.co/allenai/OLMo-7B" in shown.notes[0]
