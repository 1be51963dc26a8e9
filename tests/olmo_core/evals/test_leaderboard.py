"""The leaderboard holds every figure, and duckdb answers for it."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from olmo_core.config.evals import LeaderboardConfig
from olmo_core.errors import ConfigError
from olmo_core.evals import leaderboard
from olmo_core.evals.columns import perplexity_columns
from olmo_core.evals.results import connect, leaderboard_rows, query
from olmo_core.evals.rows import FACTS, ModelFacts, exported_models, read_rows, write_rows
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

MODELS = ("stage1", "stage2_ingredient1", "stage2_ingredient2", "soup")


def evaluated(family: Any) -> dict[str, Path]:
    """Two evaluations with figures that say where they belong."""
    folders = {name: family.new(name) for name in ("perplexity", "downstream")}
    models = [
        ModelFacts(model=name, revision=f"r-{name}", step=i, tokens=100 * i, sha256="0")
        for i, name in enumerate(MODELS)
    ]
    unigram = ModelFacts(model="unigram", revision=None, step=None, tokens=9, sha256=None)
    rows = [
        model.row(task=task, metric=metric, value=i + 0.5, n=2)
        for i, model in enumerate([*models, unigram])
        for task in ("held_out", "held_out/code", "held_out/code/python")
        for metric in ("loss", "bits_per_byte", "perplexity_token")
    ]
    write_rows(folders["perplexity"] / "rows.parquet", rows)
    rows = [
        model.row(task=task, metric=metric, value=i / 10, stderr=0.05, n=40)
        for i, model in enumerate(models)
        for task, metric in (("copa", "acc"), ("piqa", "acc"), ("piqa", "acc_norm"))
    ]
    write_rows(folders["downstream"] / "rows.parquet", rows)
    return {**folders, "export": family.runs["export"]}


def make(family: Any, inputs: dict[str, Path], **config: Any) -> Path:
    folder = family.new("leaderboard")
    with Job.open(folder) as job:
        job.finish(leaderboard.make(LeaderboardConfig(**config), inputs, job))
    return folder


def test_table_and_rows(family: Any) -> None:
    inputs = evaluated(family)
    folder = make(family, inputs, metrics={"piqa": "acc_norm"})
    rows = leaderboard_rows(folder)
    written = [
        row
        for name in ("perplexity", "downstream")
        for row in read_rows(inputs[name] / "rows.parquet")
    ]
    assert len(rows) == len(written) == 5 * 9 + 4 * 3
    assert list(rows[0]) == [
        *("recipe", "run", "seed", "model", "revision", "step", "tokens"),
        *("task", "metric", "value", "stderr"),
    ]
    assert list(dict.fromkeys(row["model"] for row in rows)) == ["unigram", *MODELS]
    with (folder / "leaderboard.csv").open() as lines:
        cells = list(csv.DictReader(lines))
    columns = ["loss", "bpb", "bpb code", "copa", "piqa"]
    facts = ["recipe", "run", "seed", "model", "revision", "step", "tokens"]
    assert list(cells[0]) == [*facts, *columns]
    assert cells[-1]["model"] == "soup"
    assert float(cells[-1]["loss"]) == 3.5
    assert float(cells[-1]["piqa"]) == 0.3
    assert cells[0]["piqa"] == ""
    markdown = (folder / "leaderboard.md").read_text()
    assert "| soup | 300 | 3.500 | 3.500 | 3.500 | 0.300 ± 0.050 | 0.300 ± 0.050 |" in markdown
    report = RunFolder(folder).read_result()["report"]
    assert report["numbers"]["lowest_loss_model"] == "stage1"
    assert list(report["tables"]["leaderboard"][0]) == ["model", *columns]


def test_a_further_set_has_two_columns_of_its_name() -> None:
    rows = [
        {"task": f"{name}{source}", "metric": metric}
        for name in ("held_out", "paloma")
        for source in ("", "/code", "/code/python", "/paloma")
        for metric in ("loss", "bits_per_byte", "macro_bits_per_byte")
        if source == "" or not metric.startswith("macro")
    ]
    assert perplexity_columns(rows) == [
        ("loss", "held_out", "loss"),
        ("bpb", "held_out", "bits_per_byte"),
        ("bpb code", "held_out/code", "bits_per_byte"),
        ("bpb held_out/paloma", "held_out/paloma", "bits_per_byte"),
        ("bpb paloma", "paloma", "bits_per_byte"),
        ("mean bpb paloma", "paloma", "macro_bits_per_byte"),
    ]


def test_scores_of_cut_prompts_are_marked(family: Any) -> None:
    inputs = evaluated(family)
    path = inputs["downstream"] / "rows.parquet"
    rows = read_rows(path)
    for row in rows:
        cut = {"copa": 11, "piqa": 3 if row["model"] == "soup" else 0}
        row["truncated"] = cut[row["task"]]
    write_rows(path, rows)
    folder = make(family, inputs)
    markdown = (folder / "leaderboard.md").read_text()
    assert "| soup | 300 | 3.500 | 3.500 | 3.500 | 0.300 ± 0.050 † | 0.300 ± 0.050 † |" in markdown
    assert "| stage1 | 0 | 0.500 | 0.500 | 0.500 | 0.000 ± 0.050 † | 0.000 ± 0.050 |" in markdown
    assert markdown.endswith(
        "|\n\nMetrics: copa acc, piqa acc.\n"
        "\n† Prompts cut on the left to fit the model's context: copa 11 of 40 documents "
        f"({', '.join(MODELS)}), piqa 3 of 40 documents (soup).\n"
    )
    [copa, piqa] = RunFolder(folder).read_result()["report"]["tables"]["cut prompts"]
    assert (copa["truncated"], piqa["truncated"], piqa["models"]) == (11, 3, "soup")


def test_equal_names_of_several_runs_stay_apart(tmp_path: Path) -> None:
    for number, run in enumerate(("aaa", "bbb")):
        known = {"recipe": "demo", "run": run, "seed": number, "revision": None, "sha256": run}
        model = ModelFacts(model="stage1@step2", step=2, tokens=9, **known)
        row = model.row(task="copa", metric="acc", value=number / 10)
        write_rows(tmp_path / run / "rows.parquet", [row])
    figures = leaderboard_rows(tmp_path / "aaa", tmp_path / "bbb")
    assert [(row["run"], row["seed"], row["value"]) for row in figures] == [
        ("aaa", 0, 0.0),
        ("bbb", 1, 0.1),
    ]
    cells = leaderboard.table([("copa", "copa", "acc")], figures)
    assert [(row["run"], row["copa"]) for row in cells] == [("aaa", 0.0), ("bbb", 0.1)]


def test_rows_of_before_lack_columns_and_are_read(tmp_path: Path) -> None:
    table = pq.read_table(_one_row(tmp_path / "new"))
    before = table.drop_columns(["recipe", "run", "seed", "truncated"])
    (tmp_path / "old").mkdir()
    pq.write_table(before, tmp_path / "old" / "rows.parquet")
    for folders in ([tmp_path / "old"], [tmp_path / "old", tmp_path / "new"]):
        first = leaderboard_rows(*folders)[0]
        assert (first["recipe"], first["model"], first["value"]) == (None, "m", 0.5)


def _one_row(folder: Path) -> Path:
    model = ModelFacts(
        recipe="demo", run="a", seed=1, model="m", revision=None, step=1, tokens=1, sha256="0"
    )
    write_rows(folder / "rows.parquet", [model.row(task="copa", metric="acc", value=0.5)])
    return folder / "rows.parquet"


def test_questions_in_sql(family: Any) -> None:
    folder = make(family, evaluated(family))
    with connect(folder) as connection:
        best = query(
            connection,
            "select model, max(value) as best from leaderboard where task = ? "
            "group by model order by best desc limit 1",
            "copa",
        )
        assert best == [{"model": "soup", "best": 0.3}]
        described = query(connection, "describe rows")
        assert {"n", "limit", "data_sha256"} <= {row["column_name"] for row in described}
    figures = leaderboard_rows(folder)
    rows = leaderboard.table([("loss", "held_out", "loss"), ("x", "none", "acc")], figures)
    assert rows[1]["loss"] == 0.5
    assert rows[1]["x"] is None
    with pytest.raises(FileNotFoundError, match="has not finished"):
        leaderboard_rows(folder / "absent")


def test_the_same_rows_give_the_same_bytes(family: Any) -> None:
    inputs = evaluated(family)
    digests = {RunFolder(make(family, inputs)).read_result()["digest"] for _ in range(2)}
    assert len(digests) == 1


def test_unknown_metrics_are_named(family: Any) -> None:
    inputs = evaluated(family)
    with pytest.raises(ConfigError, match="copa has no 'acc_nrm'"):
        make(family, inputs, metrics={"copa": "acc_nrm"})
    with pytest.raises(ConfigError, match="no task 'cpa'; did you mean 'copa'"):
        make(family, inputs, metrics={"cpa": "acc"})
    with pytest.raises(ValueError, match="no column 'score'"):
        write_rows(Path("unused.parquet"), [{"score": 1}])


def test_results_are_read_without_torch(family: Any) -> None:
    code = "import olmo_core.evals.results, sys; assert not {'torch', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_of_an_export_is_of_the_run_that_it_was_made_from(
    family: Any, tmp_path: Path
) -> None:
    export = tmp_path / "root" / "mine" / "export" / "fff"
    stage1 = tmp_path / "root" / "demo" / "stage1" / "abc.2"
    stage1.mkdir(parents=True)
    (stage1 / "config.yaml").write_text("seed: 7\n")
    result = RunFolder(family.runs["export"]).read_result()
    result["inputs"] = {
        "stage1": {"root": "own", "path": "demo/stage1/abc.2"},
        "soup": {"root": str(tmp_path / "shared"), "path": "other/soup/def"},
    }
    write_json(export / "result.json", result)
    found = {model.model: model for model in exported_models(export)}
    assert [(m.recipe, m.run, m.seed) for m in (found["stage1"], found["soup"])] == [
        ("demo", "abc.2", 7),
        ("other", "def", None),
    ]
    assert found["stage2_ingredient1"].run is None  # nobody knows


def test_a_suite_shows_its_headlines_averages_and_chance(family: Any) -> None:
    inputs = evaluated(family)
    path = inputs["downstream"] / "rows.parquet"
    stock = read_rows(path)
    suite = [
        {**row, **figure, "truncated": 0}
        for row in stock
        if (row["task"], row["metric"]) == ("copa", "acc")
        for figure in (
            {"task": "olmo1_piqa", "metric": "acc", "headline": False},
            {"task": "olmo1_piqa", "metric": "acc_per_token", "headline": True, "chance": 0.5},
            {"task": "olmes_piqa_mc", "metric": "acc", "headline": False},
            {"task": "olmes_piqa", "metric": "best", "headline": True, "chance": 0.5},
            {"task": "olmo1_core", "metric": "mean", "headline": True, "chance": 0.4},
        )
    ]
    write_rows(path, stock + suite)
    folder = make(family, inputs)
    with (folder / "leaderboard.csv").open() as lines:
        cells = list(csv.DictReader(lines))
    columns = ["loss", "bpb", "bpb code", "copa", "piqa", "olmo1_piqa", "olmes_piqa", "olmo1_core"]
    assert list(cells[0]) == [*FACTS, *columns]
    assert [row["model"] for row in cells] == ["chance", "unigram", *MODELS]
    assert [cells[0][title] for title in columns[3:]] == ["", "", "0.5", "0.5", "0.4"]
    markdown = (folder / "leaderboard.md").read_text()
    assert "| chance |  |  |  |  |  |  | 0.500 | 0.500 | 0.400 |\n" in markdown
    assert markdown.endswith(
        "\n\nMetrics: copa acc, piqa acc, olmo1_piqa acc_per_token, olmes_piqa best, "
        "olmo1_core mean.\n"
    )
    result = RunFolder(folder).read_result()["report"]
    assert result["numbers"]["models"] == 5
    # A task that is part of a figure is shown where it is asked for.
    folder = make(family, inputs, metrics={"olmes_piqa_mc": "acc", "olmo1_piqa": "acc"})
    report = RunFolder(folder).read_result()["report"]["data"]["columns"]
    assert ["olmes_piqa_mc", "olmes_piqa_mc", "acc"] in report
    assert ["olmo1_piqa", "olmo1_piqa", "acc"] in report
