"""The tokens behind a model: counted along what each run began from, and never guessed."""

import shutil
from pathlib import Path

import pytest

from olmo_core.evals.rows import ModelFacts
from olmo_core.evals.store.read import open_results
from olmo_core.evals.store.tokens_behind import tokens_before
from tests.olmo_core.evals.store.evaluations import evaluate
from tests.olmo_core.evals.store.runs import VERSION, end, soup, train, weights


def test_a_run_from_first_weights_has_nothing_behind_it(tmp_path: Path) -> None:
    folder = train(tmp_path, "stage1", 800)
    assert tokens_before(folder.parents[1]) == 0


@pytest.mark.parametrize("finished", [True, False])
def test_what_a_run_began_from_is_counted_however_often(tmp_path: Path, finished: bool) -> None:
    first = train(tmp_path, "stage1", 800)
    second = train(tmp_path, "stage2", 120, parent=first)
    third = train(tmp_path, "stage3", 50, parent=second, finished=finished)
    assert tokens_before(second.parents[1]) == 800
    assert tokens_before(third.parents[1]) == 920


def test_a_counter_that_went_on_is_not_counted_twice(tmp_path: Path) -> None:
    first = train(tmp_path, "stage1", 800)
    second = train(tmp_path, "stage2", 120, parent=first)
    on = train(tmp_path, "longer", 120 + 30, step=12, parent=second, origin=9)
    assert tokens_before(on.parents[1]) == 800  # 150 on its counter, 950 in all


def test_a_run_from_the_middle_of_another_has_what_that_had_read_by_then(tmp_path: Path) -> None:
    first = train(tmp_path, "stage1", 300, step=3, finished=False)
    second = train(tmp_path, "stage2", 120, parent=first)
    train(tmp_path, "stage1", 800)  # its last checkpoint
    assert tokens_before(second.parents[1]) == 300


def test_a_run_that_took_up_weights_alone_has_all_that_they_had_read(tmp_path: Path) -> None:
    stage1 = train(tmp_path, "stage1", 800).parents[1]
    known = {"step": None, "model_sha256": weights(stage1)}
    run = train(tmp_path, "tuned", 40, identity=known).parents[1]
    assert tokens_before(run) is None  # nothing says where they lie
    (run / "config.yaml").write_text(f"load_path: {stage1}/model\n")
    assert tokens_before(run) == 800


def test_a_soup_counts_what_its_ingredients_share_once_and_none_of_weight_0(
    tmp_path: Path,
) -> None:
    stage1 = train(tmp_path, "stage1", 800)
    runs = [
        train(tmp_path, f"ingredient{number}", tokens, parent=stage1).parents[1]
        for number, tokens in ((1, 100), (2, 120), (3, 7))
    ]
    made = soup(tmp_path, dict(zip(runs, (0.5, 0.5, 0.0), strict=True)))
    assert tokens_before(made) == 800  # of its own 220
    known = {"step": None, "model_sha256": weights(made)}
    tuned = train(tmp_path, "tuned", 40, identity=known).parents[1]
    (tuned / "config.yaml").write_text(f"load_path: {made}/model\n")
    assert tokens_before(tuned) == 1020


def test_an_average_of_a_single_run_has_what_that_has_read(tmp_path: Path) -> None:
    stage1 = train(tmp_path, "stage1", 800).parents[1]
    assert tokens_before(soup(tmp_path, {stage1: 1.0})) == 0


def test_a_model_of_others_is_not_guessed(tmp_path: Path) -> None:
    known = {"step": 1000, "model_sha256": None, "weights_sha256": {"model.pt": "x"}}
    theirs = train(tmp_path, "stage1", 30, identity=known)
    ours = train(tmp_path, "stage2", 10, parent=theirs)
    (theirs.parents[1] / "config.yaml").write_text(f"load_path: {tmp_path}/step1000-unsharded\n")
    assert tokens_before(theirs.parents[1]) is None
    assert tokens_before(ours.parents[1]) is None


def test_another_checkpoint_in_the_place_of_the_parent_is_not_taken_for_it(tmp_path: Path) -> None:
    first = train(tmp_path, "stage1", 800, finished=False)
    run = train(tmp_path, "stage2", 120, parent=first).parents[1]
    (first / "manifest.json").write_text("{}")
    assert tokens_before(run) is None


def test_the_last_checkpoint_may_be_gone_where_the_result_tells_its_weights(
    tmp_path: Path,
) -> None:
    first = train(tmp_path, "stage1", 800)
    run = train(tmp_path, "stage2", 120, parent=first).parents[1]
    shutil.rmtree(first.parent)
    assert tokens_before(run) == 800
    shutil.rmtree(first.parents[1])
    assert tokens_before(run) is None


@pytest.mark.parametrize("damage", ["{", "[]", '{"tokens": 1}'])
def test_files_that_are_damaged_say_nothing(tmp_path: Path, damage: str) -> None:
    folder = train(tmp_path, "stage1", 800, finished=False)
    (folder / "train.json").write_text(damage)
    assert tokens_before(folder.parents[1]) is None


def stage2_checkpoint(name: str = "stage2@step9") -> ModelFacts:
    facts = {"recipe": "demo", "run": VERSION, "seed": 1, "sha256": "x"}
    return ModelFacts(model=name, revision=None, step=9, tokens=120, **facts)


def test_an_evaluation_keeps_the_tokens_behind_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    folder = train(tmp_path, "stage2", 120, parent=train(tmp_path, "stage1", 800))
    evaluate(tmp_path, stage2_checkpoint(), checkpoint_folder=folder)
    shutil.rmtree(tmp_path / "demo")
    [row] = open_results(tmp_path).query("select * from current")
    assert (row["tokens"], row["tokens_before"], row["tokens_in_all"]) == (120, 800, 920)


def test_of_exported_models_each_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    stage1 = train(tmp_path, "stage1", 800)
    stage2 = train(tmp_path, "stage2", 120, parent=stage1).parents[1]
    made = soup(tmp_path, {stage2: 1.0})
    export = tmp_path / "demo/export" / VERSION
    export.mkdir(parents=True)
    places = {"stage2": stage2, "soup": made}
    inputs = {
        name: {"root": "own", "path": str(path.relative_to(tmp_path))}
        for name, path in places.items()
    }
    end(export, inputs, {})
    models = [stage2_checkpoint(name) for name in places]
    evaluate(tmp_path, *models, export=export)
    rows = open_results(tmp_path).query("select model, tokens_in_all from current order by all")
    assert [(row["model"], row["tokens_in_all"]) for row in rows] == [
        ("soup", 920),
        ("stage2", 920),
    ]
