"""`olmo leaderboard` and `olmo curves`, as they are read."""

import json
from pathlib import Path

import pytest

from assets.evals.board import Board, Model, Row
from pipelines.cli.curves import draw_curves
from pipelines.cli.leaderboard import markdown_text, plain_text, print_leaderboard
from tests.olmo_core.evals.store.evaluations import checkpoint, evaluate, figure

RECIPES = Path(__file__).parents[2] / "recipes"
COPA, PIQA = ("copa", "acc"), ("piqa", "acc_norm")


@pytest.fixture
def root(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of the recipe `tiny`, evaluated."""
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    models = [checkpoint(step, recipe="tiny") for step in (10, 20)]
    evaluate(toy_root, *models, recipe="tiny")
    return toy_root


def model(recipe: str, name: str, **values: float) -> Model:
    rows = {"copa": COPA, "piqa": PIQA}
    figures: dict[tuple[str, str], Row] = {
        rows[task]: {"value": value, "stderr": 0.05, "truncated": 3 if value == 0.25 else 0}
        for task, value in values.items()
    }
    return Model(recipe=recipe, name=name, tokens=1000, own_tokens=200, figures=figures)


ONE = Board(
    columns=[("copa", *COPA), ("piqa", *PIQA)],
    models=[model("demo", "stage1", copa=0.25), model("demo", "soup", copa=0.5, piqa=0.75)],
    notes=["A note."],
)


def test_markdown_is_one_table_with_its_notes_below() -> None:
    assert markdown_text(ONE).splitlines() == [
        "| model | tokens | own tokens | copa | piqa |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| stage1 | 1,000 | 200 | 0.250 ± 0.050 † |  |",
        "| soup | 1,000 | 200 | 0.500 ± 0.050 | 0.750 ± 0.050 |",
        "",
        "Metrics: copa acc, piqa acc_norm.",
        "",
        "A note.",
    ]


def test_several_recipes_stand_in_a_column_of_their_own() -> None:
    both = Board(columns=ONE.columns, models=[*ONE.models, model("mine", "soup")], notes=[])
    assert (
        markdown_text(both).splitlines()[0]
        == "| recipe | model | tokens | own tokens | copa | piqa |"
    )
    assert markdown_text(both).splitlines()[-3] == "| mine | soup | 1,000 | 200 |  |  |"


def test_a_table_that_is_too_wide_is_printed_in_parts_each_of_the_models_that_it_has() -> None:
    lines = plain_text(ONE, width=44).splitlines()
    assert lines[:8] == [
        "model   tokens  own tokens             copa",
        "stage1   1,000         200  0.250 ± 0.050 †",
        "soup     1,000         200    0.500 ± 0.050",
        "",
        "model            piqa",
        "soup    0.750 ± 0.050",
        "",
        "Metrics: copa acc, piqa acc_norm.",
    ]
    assert "piqa" in plain_text(ONE, width=72).splitlines()[0]


def test_json_has_every_figure_and_what_was_published_of_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [checkpoint(step, recipe="tiny") for step in (10, 20)]
    headline = figure("olmo1_copa", 0.5, headline=True)
    evaluate(root, *models, recipe="tiny", figures=(headline,), version="ff")
    assert print_leaderboard(["tiny"], checkpoints=False, as_json=True, markdown=False) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows][:2] == ["stage1@step10", "stage1@step20"]
    assert {row["leaderboard"] for row in rows[:2]} == {"tiny"}
    assert len(rows) == 2 + 9
    assert [row["tokens_in_all"] for row in rows[2:]] == [row["tokens"] for row in rows[2:]]
    assert {row["published"] for row in rows[2:]} == {"https://huggingface.co/allenai/OLMo-7B"}


def test_a_damaged_file_is_named_and_the_exit_code_says_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(root, checkpoint(5))
    [damaged] = (root / "results/demo").rglob("*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for part in sorted((root / "demo").rglob("*"), reverse=True):
        part.rmdir() if part.is_dir() else part.unlink()
    assert print_leaderboard(["tiny"], checkpoints=False, as_json=False, markdown=False) == 1
    printed = capsys.readouterr()
    assert "stage1@step20" in printed.out
    assert printed.err.startswith(f"olmo: {damaged}: damaged")


def test_curves_are_drawn_in_the_terminal_or_as_a_picture(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw_curves(["tiny"], [], None) == 0
    assert capsys.readouterr().out.startswith("copa (acc)\n")
    picture = tmp_path / "copa.svg"
    assert draw_curves(["tiny"], ["copa"], picture) == 0
    assert capsys.readouterr().out.startswith(f"{picture}\n")
    assert picture.read_text().startswith("<?xml")
