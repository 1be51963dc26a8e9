"""The documents of each task: they make its figures, and are those of the task's data."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.evals import downstream
from olmo_core.evals.rows import exported_models, read_rows
from olmo_core.evals.sample import published_documents, sampled_documents
from olmo_core.evals.suites import resolved
from olmo_core.evals.task_rows import rebuilt_rows
from olmo_core.evals.task_sources import DATA
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

# One task per kind: of ours and of lm-eval, choices in answers and in contexts, generated, in-loop.
TASKS = (
    TaskConfig(name="olmo1_arc_easy", limit=9),
    TaskConfig(name="olmo1_winogrande", limit=9),
    TaskConfig(name="olmo1_mmlu", limit=30, num_fewshot=0),
    TaskConfig(name="olmes_boolq", limit=6, num_fewshot=0),
    TaskConfig(name="copa", limit=12),
    TaskConfig(name="arc_challenge", limit=9),
    TaskConfig(name="winogrande", limit=9, num_fewshot=1),
    TaskConfig(name="in_loop_openbook_qa", limit=9),
    TaskConfig(name="in_loop_boolq_rc_0shot_bpb", limit=9),
    TaskConfig(name="in_loop_mrpc", limit=9),  # its figure is F1, no mean
)
WITHOUT_ANSWER = ("in_loop_boolq_rc_0shot_bpb",)
Row = dict[str, Any]


def evaluate(family: Any, *tasks: TaskConfig) -> Path:
    folder = family.new("downstream")
    models = exported_models(family.runs["export"])[:2]
    with Job.open(folder) as job:
        config = DownstreamConfig(tasks=tasks, batch_size=8)
        job.finish(downstream.score_models(config, models, job))
    return folder


@pytest.fixture(scope="module")
def scored(family: Any) -> Path:
    return evaluate(family, *TASKS)


@pytest.fixture(scope="module")
def documents(scored: Path) -> list[Row]:
    return pq.read_table(scored / "documents.parquet").to_pylist()


def of(documents: list[Row], **facts: str) -> list[Row]:
    return [row for row in documents if all(row[name] == facts[name] for name in facts)]


def test_the_mean_of_the_documents_is_the_figure(scored: Path, documents: list[Row]) -> None:
    asked = {task.name for task in resolved(DownstreamConfig(tasks=TASKS)).tasks}
    rows = [row for row in read_rows(scored / "rows.parquet") if row["task"] in asked]
    assert {row["task"] for row in rows} == asked
    for row in rows:
        keys = {key: row[key] for key in ("model", "task", "metric")}
        values = [each["value"] for each in of(documents, **keys)]
        assert len(values) == row["n"], keys
        if row["metric"] == "f1":
            assert set(values) == {None}
        else:
            assert sum(values) / len(values) == pytest.approx(row["value"], rel=1e-12), keys
    kept = {(row["model"], row["task"], row["metric"]) for row in documents}
    assert kept == {(row["model"], row["task"], row["metric"]) for row in rows}


def test_a_document_is_right_where_its_answer_is_the_target(documents: list[Row]) -> None:
    """Of every metric that takes an answer: computed from answers, not from what lm-eval says."""
    with_answer = 0
    for row in documents:
        if row["task"] in WITHOUT_ANSWER:
            assert row["answer"] is None
            continue
        assert row["target"], row
        assert row["answer"], row
        if row["metric"] != "f1":
            assert (row["answer"] == row["target"]) == (row["value"] > 0), row
            with_answer += 1
    values = {row["value"] > 0 for row in documents if row["value"] is not None}
    assert with_answer > 300
    assert values == {True, False}


def test_documents_are_those_of_the_tasks_data(documents: list[Row]) -> None:
    rows = rebuilt_rows(DATA["copa"].splits["validation"])
    copa = of(documents, model="soup", task="copa") or of(documents, model="stage1", task="copa")
    numbers = [row["document"] for row in copa]
    assert numbers == sampled_documents("copa", seed=0, documents=len(rows), limit=12)
    for found in copa:
        row = rows[found["document"]]
        right = row["choice1"], row["choice2"]
        assert found["target"].casefold() == right[row["label"]].casefold()
        assert row["premise"][:-1] in found["question"]
    rows = rebuilt_rows(DATA["arc_easy"].splits["validation"])
    ours = of(documents, model="stage1", task="olmo1_arc_easy", metric="acc_uncond")
    numbers = published_documents(seed=1234, documents=len(rows), limit=9)
    assert [row["document"] for row in ours] == numbers
    for found in ours:
        row = rows[found["document"]]
        right = row["choices"]["label"].index(row["answerKey"])
        assert found["target"] == row["choices"]["text"][right]
        assert f"Question: {row['question']}\nAnswer:".startswith(found["question"])


def test_models_are_asked_the_same_and_the_forms_of_a_task_are_of_the_same_documents(
    documents: list[Row],
) -> None:
    facts = ("task", "metric", "document", "document_digest", "prompt_digest", "target", "question")
    models = sorted({row["model"] for row in documents})
    assert len(models) == 2
    first, second = (
        [{name: row[name] for name in facts} for row in of(documents, model=model)]
        for model in models
    )
    assert first == second
    forms = [
        of(documents, model=models[0], task=f"olmes_boolq_{form}", metric="acc")
        for form in ("mc", "rc")
    ]
    for mc, rc in zip(*forms, strict=True):
        assert mc["document_digest"] == rc["document_digest"]
        assert mc["prompt_digest"] != rc["prompt_digest"]
    for task in TASKS:
        digests = [row["prompt_digest"] for row in of(first, task=task.name)]
        metrics = {row["metric"] for row in of(first, task=task.name)}
        assert len(set(digests)) * len(metrics) == len(digests)


def test_a_cached_score_brings_its_documents(family: Any, scored: Path) -> None:
    again = evaluate(family, *TASKS)
    assert (again / "documents.parquet").read_bytes() == (scored / "documents.parquet").read_bytes()
    tasks = resolved(DownstreamConfig(tasks=TASKS)).tasks
    report = RunFolder(again).read_result()["report"]
    assert report["numbers"]["scores_from_cache"] == 2 * len(tasks)


OWN = {
    "task": "sums",
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "question",
}


def own_task(folder: Path, content: dict[str, Any], functions: str = "") -> TaskConfig:
    rows = [{"question": f"What is {n} and 1?", "choices": [str(n), str(n + 1)]} for n in range(9)]
    (folder / "sums.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data = {"dataset_kwargs": {"data_files": {"test": str(folder / "sums.jsonl")}}}
    (folder / "sums.yaml").write_text(yaml.safe_dump({**OWN, **data, **content}) + functions)
    return TaskConfig(name="sums", file=str(folder / "sums.yaml"))


def test_an_answer_that_only_a_function_knows_and_a_median_are_not_made_up(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = """
metric_list:
  - {metric: gap, aggregation: mean, higher_is_better: true}
  - {metric: middle, aggregation: !function scoring.median, higher_is_better: true}
process_results: !function scoring.gap
"""
    (tmp_path / "scoring.py").write_text(
        "import statistics\n"
        "median = statistics.median\n"
        "def gap(doc, results):\n"
        "    gap = results[1][0] - results[0][0]\n"
        "    return {'gap': gap, 'middle': gap}\n"
    )
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    asked = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": 1}
    folder = evaluate(family, own_task(tmp_path, asked, functions))
    documents = pq.read_table(folder / "documents.parquet").to_pylist()
    gaps = of(documents, model="stage1", metric="gap")
    [figure] = [
        row["value"]
        for row in read_rows(folder / "rows.parquet")
        if (row["model"], row["metric"]) == ("stage1", "gap")
    ]
    assert sum(row["value"] for row in gaps) / 9 == pytest.approx(figure)
    assert [row["target"] for row in gaps] == [str(n + 1) for n in range(9)]
    middle = of(documents, model="stage1", metric="middle")
    assert [row["value"] for row in middle] == [None] * 9
    assert {row["answer"] for row in documents} == {None}


def test_a_generated_answer_is_kept_whole_for_each_filter(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    asked = {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[1]}}",
        "generation_kwargs": {"until": ["What"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
        "filter_list": [
            {"name": "whole", "filter": [{"function": "take_first"}]},
            {
                "name": "word",
                "filter": [
                    {"function": "regex", "regex_pattern": "([a-z]+)", "fallback": "nothing"},
                    {"function": "take_first"},
                ],
            },
        ],
    }
    folder = evaluate(family, own_task(tmp_path, asked))
    documents = pq.read_table(folder / "documents.parquet").to_pylist()
    whole = of(documents, model="stage1", metric="exact_match/whole")
    word = of(documents, model="stage1", metric="exact_match/word")
    assert len(whole) == len(word) == 9
    for each, filtered in zip(whole, word, strict=True):
        assert (each["target"], each["value"]) == (str(each["document"] + 1), 0.0)
        assert each["answer"]
        found = re.search("[a-z]+", each["answer"])
        assert filtered["answer"] == (found[0] if found else "nothing")
