"""The checks of evaluations, on results written by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.evals.checks import every_model_on_every_task, perplexity_checks
from assets.node import Finished, Node
from olmo_core.evals.rows import write_rows
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder

FIGURES = [("set", "macro_loss"), ("set/web", "loss"), ("set/web/a", "loss"), ("set/web/b", "loss")]


def finished(folder: Path, lacking: list[tuple[str, str]], left_out: list[Any]) -> Finished:
    """Two models; `stage1` lacks some figures."""
    models = [{"model": "stage1"}, {"model": "soup"}]
    (folder / "export").mkdir(parents=True)
    result = {"schema_version": 1, "report": {"data": {"models": models}}}
    write_json(folder / "export" / "result.json", result)
    write_rows(
        folder / "rows.parquet",
        [
            {"model": model["model"], "task": task, "metric": metric, "value": 1.0}
            for model in models
            for task, metric in FIGURES
            if model["model"] == "soup" or (task, metric) not in lacking
        ],
    )
    node = Node(recipe="r", name="perplexity", stage="evals", description="", module="", config={})
    return Finished(
        node=node,
        folder=RunFolder(folder),
        result={"report": {"data": {"left_out": left_out}}},
        inputs={"export": RunFolder(folder / "export")},
    )


def line(domain: str, model: str = "stage1", metric: str = "loss") -> dict[str, str]:
    return {"model": model, "domain": domain, "metric": metric, "reason": "no tokens"}


@pytest.mark.parametrize(
    ("lacking", "left_out", "passes"),
    [
        ([], [], True),
        ([("set/web/b", "loss")], [], False),
        ([("set/web/b", "loss")], [line("set/web/b")], True),
        ([("set/web/b", "loss")], [line("set/web/a")], False),
        ([("set/web/b", "loss")], [line("set/web/b", model="soup")], False),
        ([("set/web/b", "loss")], [line("set/web/b", metric="bits_per_byte")], False),
        ([("set/web", "loss"), ("set", "macro_loss")], [line("set/web/b")], True),
        ([("set/web", "loss")], [line("set/webs/b")], False),
    ],
)
def test_a_figure_may_lack_where_the_report_says_why(
    tmp_path: Path, lacking: list[tuple[str, str]], left_out: list[Any], passes: bool
) -> None:
    verdict = every_model_on_every_task.evaluate(finished(tmp_path, lacking, left_out))
    assert verdict.passed == passes


def test_a_task_that_no_model_could_be_scored_on_is_named(tmp_path: Path) -> None:
    asset = finished(tmp_path, [], [])
    why = "boolq: document 7: its choice has 300 tokens"
    not_scored = [{"model": "stage1", "task": "boolq", "why": why}]
    verdict = every_model_on_every_task.evaluate(
        replace(asset, result={"report": {"data": {"left_out": [], "not_scored": not_scored}}})
    )
    assert not verdict.passed
    assert f"stage1, not scored: {why}" in verdict.description


@pytest.mark.parametrize(
    ("soup", "passes", "said"),
    [
        (2.4, True, "soup 2.4000 nats per token, best of 3 ingredients 2.5000"),
        (2.5, True, "best of 3 ingredients 2.5000 (stage2_ingredient2), on own"),
        (2.6, False, "soup 2.6000"),
    ],
)
def test_a_soup_is_compared_with_its_best_ingredient(
    tmp_path: Path, soup: float, passes: bool, said: str
) -> None:
    losses = {"stage1": 1.0, **{f"stage2_ingredient{k}": 3.0 - k / 4 for k in (1, 2)}}
    losses |= {"stage2_ingredient3": 2.75, "soup": soup}
    asset = finished(tmp_path, [], [])
    models = [{"model": model} for model in losses]
    write_json(
        tmp_path / "export" / "result.json",
        {"schema_version": 1, "report": {"data": {"models": models}}},
    )
    write_rows(
        tmp_path / "rows.parquet",
        [
            {"model": model, "task": task, "metric": metric, "value": value * factor}
            for model, value in losses.items()
            for task, metric, factor in (
                ("own", "loss", 1.0),
                ("own", "bits_per_byte", -1.0),
                ("own/web", "loss", -1.0),
                ("other", "loss", -1.0),
            )
        ],
    )
    ingredients = tuple(f"stage2_ingredient{k}" for k in (1, 2, 3))
    *_, check = perplexity_checks("own", ("web",), ingredients=ingredients)
    assert check.name == "soup_is_as_good_as_its_best"
    assert not check.blocking
    verdict = check.evaluate(asset)
    assert verdict.passed == passes
    assert said in verdict.description
