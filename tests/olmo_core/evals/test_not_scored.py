"""What a model cannot read whole is counted; what it cannot score at all is named, and no more."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.evals import downstream, harness
from olmo_core.evals.rows import exported_models, read_rows
from olmo_core.evals.sample import sampled_documents
from olmo_core.evals.task_rows import rebuilt_rows
from olmo_core.evals.task_sources import DATA, TASKS
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

CONTEXT = 64  # of the family's models
COPA, HELLASWAG = TaskConfig(name="copa", limit=3), TaskConfig(name="hellaswag", limit=30)


def evaluate(family: Any, *tasks: TaskConfig) -> RunFolder:
    folder = family.new("downstream")
    models = exported_models(family.runs["export"])[:2]
    config = DownstreamConfig(tasks=tasks, batch_size=8)
    with Job.open(folder) as job:
        job.finish(downstream.score_models(config, models, job))
    return RunFolder(folder)


def test_documents_whose_prompt_is_cut_are_counted(family: Any) -> None:
    run = evaluate(family, TaskConfig(name="sciq", limit=40), COPA)
    folder = exported_models(family.runs["export"])[0].path
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rows = rebuilt_rows(DATA["sciq"].splits["validation"])
    cut = 0
    for number in sampled_documents("sciq", seed=0, documents=len(rows), limit=40):
        row = rows[number]
        prompt = f"{row['support'].lstrip()}\nQuestion: {row['question']}\nAnswer:"
        choices = [row["distractor1"], row["distractor2"], row["distractor3"]]
        longest = max(
            len(tokenizer.encode(f"{prompt} {choice}"))
            for choice in [*choices, row["correct_answer"]]
        )
        cut += longest > CONTEXT + 1
    assert 0 < cut < 40
    found = {row["task"]: row["truncated"] for row in read_rows(run.path / "rows.parquet")}
    assert found == {"sciq": cut, "copa": 0}
    report = run.read_result()["report"]
    assert report["numbers"]["truncated_documents"] == cut
    assert [row["truncated"] for row in report["tables"]["tasks"]] == [cut, 0]


def test_a_choice_longer_than_the_context_is_named_and_the_other_tasks_are_scored(
    family: Any,
) -> None:
    run = evaluate(family, HELLASWAG, COPA)
    assert {row["task"] for row in read_rows(run.path / "rows.parquet")} == {"copa"}
    report = run.read_result()["report"]
    assert report["numbers"]["not_scored"] == 2
    first, second = report["tables"]["not scored"]
    assert (first["model"], second["model"]) == ("stage1", "stage2_ingredient1")
    number = int(first["why"].removeprefix("hellaswag: document ").partition(":")[0])
    documents = len(rebuilt_rows(DATA["hellaswag"].splits["validation"]))
    assert number in sampled_documents("hellaswag", seed=0, documents=documents, limit=30)
    assert "tokens; expected 1 to 64, the model's context" in first["why"]


def test_another_error_ends_the_job_after_the_other_tasks(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = harness.Harness.score

    def failing(self: Any, model: Any, task: TaskConfig, **seed: int) -> Any:
        if task.name == "copa":
            raise ZeroDivisionError("a metric")
        return real(self, model, task, **seed)

    tasks = (replace(COPA, limit=4), TaskConfig(name="winogrande", limit=3))
    with monkeypatch.context() as patched:
        patched.setattr(harness.Harness, "score", failing)
        with pytest.raises(
            RuntimeError,
            match=r"all else is kept; stage1 on copa: ZeroDivisionError: a metric; stage2_ing",
        ):
            evaluate(family, *tasks)
    run = evaluate(family, *tasks)
    assert run.read_result()["report"]["numbers"]["scores_from_cache"] == 2


def test_a_task_that_cannot_be_loaded_takes_none_of_the_others_with_it(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("task: winogrande\nclass: !function nowhere.Task\n")
    monkeypatch.setitem(TASKS, "winogrande", replace(TASKS["winogrande"], file=str(broken)))
    other = replace(COPA, limit=6)
    with pytest.raises(RuntimeError, match=r"all else is kept; stage1 on winogrande: ImportError"):
        evaluate(family, TaskConfig(name="winogrande", limit=3), other)
    assert evaluate(family, other).read_result()["report"]["numbers"]["scores_from_cache"] == 2


def test_a_stopped_job_stops(family: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(self: Any, model: Any, task: TaskConfig, **seed: int) -> Any:
        raise downstream.Stopped

    monkeypatch.setattr(harness.Harness, "score", stopped)
    with pytest.raises(downstream.Stopped):
        evaluate(family, replace(COPA, limit=5))
