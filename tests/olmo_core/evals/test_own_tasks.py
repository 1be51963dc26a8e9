"""Tasks of a user's own files, and those of lm-eval that no table has."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.config.paths import package_folder
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals import downstream
from olmo_core.evals.rows import read_rows
from olmo_core.evals.suites import resolved
from olmo_core.evals.task_data import build_task
from olmo_core.evals.task_files import read_task, stock_task
from olmo_core.evals.task_sources import data_names, scored_identity, task_source
from olmo_core.run.job import Job

ROWS = [
    {"question": f"What is {n} and 1?", "choices": [str(n), str(n + 1)], "answer": 1}
    for n in range(1, 6)
]


@pytest.fixture
def own(tmp_path: Path) -> TaskConfig:
    """A task of JSON lines, with a function in a file beside it."""
    (tmp_path / "sums.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    content = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "sums.jsonl")}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 3},
    }
    text = yaml.safe_dump(content) + "doc_to_text: !function asking.question\n"
    (tmp_path / "sums.yaml").write_text(text)
    (tmp_path / "asking.py").write_text("def question(doc):\n    return doc['question'] + ' '\n")
    return TaskConfig(name="sums", file=str(tmp_path / "sums.yaml"), limit=3)


def test_an_own_task_is_scored(family: Any, own: TaskConfig, monkeypatch: Any) -> None:
    folder = family.new("downstream")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder))
    with Job.open(folder) as job:
        inputs = {"export": family.runs["export"]}
        downstream.make(DownstreamConfig(tasks=(own,), batch_size=2), inputs, job)
    rows = [row for row in read_rows(folder / "rows.parquet") if row["model"] == "soup"]
    [row] = rows
    assert (row["task"], row["metric"], row["n"]) == ("sums", "acc", 3)
    assert (row["task_version"], row["split"], row["num_fewshot"]) == ("3", "test", 0)
    assert row["value"] in (0, 1 / 3, 2 / 3, 1)
    assert row["headline"] is None


def test_what_an_own_task_says_and_runs_is_its_identity(own: TaskConfig, tmp_path: Path) -> None:
    before = scored_identity([own])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("sums.yaml", "asking.py"):
        (elsewhere / name).write_text((tmp_path / name).read_text())
    assert scored_identity([replace(own, file=str(elsewhere / "sums.yaml"))]) == before
    (tmp_path / "asking.py").write_text("def question(doc):\n    return doc['question']\n")
    assert scored_identity([own]) != before
    assert data_names([own]) == ()


def test_a_task_of_lm_eval_that_no_table_has_is_found() -> None:
    [task] = resolved(DownstreamConfig(tasks=(TaskConfig(name="gsm8k_cot"),))).tasks
    assert task.num_fewshot == 8  # its file says so
    assert task_source(task).path == package_folder("lm_eval") / "tasks/gsm8k/gsm8k-cot.yaml"
    assert stock_task("mmlu") is None  # a group
    with pytest.raises(ConfigError, match="no task 'copaa'; did you mean 'copa'"):
        task_source(TaskConfig(name="copaa"))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\0", b"[1]", b"a: [", b"{}"])
def test_a_file_that_is_no_task_is_named(
    own: TaskConfig, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "sums.yaml"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{file}: "):
        build_task(replace(own, num_fewshot=0), tmp_path)


def test_a_fault_of_an_own_task_is_not_taken_for_missing_data(
    own: TaskConfig, tmp_path: Path
) -> None:
    (tmp_path / "asking.py").write_text("def answer(doc):\n    return doc['answer']\n")
    with pytest.raises(InputError, match=r"sums\.yaml: AttributeError: .* no function 'question'"):
        build_task(own, tmp_path)


def test_an_edited_file_is_read_again(own: TaskConfig, tmp_path: Path) -> None:
    file = tmp_path / "sums.yaml"
    (tmp_path / "base.yaml").write_text("num_fewshot: 2\n")
    file.write_text(file.read_text() + "include: base.yaml\n")
    assert read_task(file)["num_fewshot"] == 2
    assert read_task(file) == read_task(file)
    (tmp_path / "base.yaml").write_text("num_fewshot: 13\n")
    assert read_task(file)["num_fewshot"] == 13


def test_a_name_or_a_path_of_which_figures_could_be_mistaken_is_refused(own: TaskConfig) -> None:
    named = replace(own, name="olmo1_copa")
    with pytest.raises(ConfigError, match="olmo1_copa: a suite's task has this name"):
        resolved(DownstreamConfig(tasks=(named,)))
    with pytest.raises(ConfigError, match=r"olmes_piqa: a suite's task has this name"):
        resolved(DownstreamConfig(tasks=(replace(own, name="olmes_piqa"),)))
    with pytest.raises(ConfigError, match=r"sums: file 'sums\.yaml' .* expected an absolute path"):
        resolved(DownstreamConfig(tasks=(replace(own, file="sums.yaml"),)))
    with pytest.raises(ConfigError, match=r"file '\$\{NOT_SET\}/sums.yaml' \(not set: NOT_SET\)"):
        resolved(DownstreamConfig(tasks=(replace(own, file="${NOT_SET}/sums.yaml"),)))


def test_data_that_is_not_here_is_named(own: TaskConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its data set baber/logiqa2 \S+ is not here"):
        build_task(TaskConfig(name="logiqa2"), tmp_path)
    (tmp_path / "sums.jsonl").unlink()
    with pytest.raises(InputError, match=r"sums.yaml: its data set json is not here"):
        build_task(own, tmp_path)
