"""MMLU, all of it, against the task and the metric of AI2's library.

The suites ask as published figures were made, the library as training asks. The library's class is
given its own data with a mark around each question and before each choice; where the forms differ a
mark becomes what the suite has, and all else must be the library's text, blank by blank.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmo_core.config.evals import DownstreamConfig
from olmo_core.evals.harness import Harness
from olmo_core.evals.suites import resolved
from olmo_core.evals.task_data import build_task, write_shadows
from tests.olmo_core.evals.conftest import WholeTexts

GROUPS = ("stem", "humanities", "social_sciences", "other")
BEGIN, END, CHOICE = "\2", "\3", "\4"  # which `str.strip` leaves
LETTERS = {"olmo1_mmlu": "", "olmes_mmlu_mc": " "}  # task -> what stands before a choice's letter


def marked(row: dict[str, Any]) -> dict[str, Any]:
    assert not re.search("[\2\3\4]", "".join([row["question"], *row["choices"]]))
    choices = [CHOICE + choice for choice in row["choices"]]
    return {**row, "question": f"{BEGIN}{row['question']}{END}", "choices": choices}


def in_the_form_of(task: str, text: str) -> str:
    """The library's text: a full stop ends the first line, `Question:` and a blank are added."""
    text = re.sub(r"\A([^\n\2]*):\n\n", r"\1.\n\n", text)
    text = re.sub(f"([ABCD]\\. ){CHOICE}", rf"{LETTERS[task]}\1", text)
    return text.replace(BEGIN, "Question: ").replace(END, "")


@dataclass(frozen=True)
class Formed:
    """A tokenizer that reads the library's texts in the form of a task."""

    task: str
    tokenizer: Any

    bos_token_id = None

    @property
    def pad_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        formed = in_the_form_of(self.task, text)
        return self.tokenizer.encode(formed, add_special_tokens=add_special_tokens)


@pytest.fixture(scope="module")
def asked(library: Any) -> Any:
    """The library's task of a group or subject: the first documents of its marked test split."""
    load = library.tasks.load_hf_dataset

    def build(name: str, tokenizer: Any, length: int, documents: int | None = None) -> Any:
        def load_marked(path: str, subject: str | None, split: str) -> datasets.Dataset:
            rows = load(path, subject, split).to_list()
            first = rows[:documents] if split == "test" else rows
            return datasets.Dataset.from_list([marked(row) for row in first])

        more = {"split": "test", "prompt_variations": 2, "mc_labels": True, "metric_type": "acc"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library.tasks, "load_hf_dataset", load_marked)
            return library.tasks.MMLU(tokenizer, dataset_name=name, model_ctx_len=length, **more)

    return build


@pytest.fixture(scope="module")
def shadows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mmlu")
    data = [build_task(config(name), folder / "cache") for name in LETTERS]
    write_shadows(data, folder / "tasks", datasets_cache=folder / "datasets")
    return folder / "tasks"


def config(name: str) -> Any:
    """The task with the examples of its suite."""
    of_suite = resolved(DownstreamConfig(suites=(name.partition("_")[0],))).tasks
    return next(task for task in of_suite if task.name == name)


@pytest.mark.slow
def test_every_prompt_of_every_subject_is_the_library_s(asked: Any, shadows: Path) -> None:
    theirs = [sample for group in GROUPS for sample in asked(group, WholeTexts(), 1 << 30).samples]
    for name in LETTERS:
        task = Harness(shadows).load(config(name))
        task.build_all_requests()
        ours = Counter((*each.args, each.doc["answer"]) for each in task.instances)
        formed = Counter(
            (in_the_form_of(name, each["ctx"][0]), each["continuation"][0], each["label_id"])
            for each in theirs
        )
        assert ours.total() == 4 * 14042
        differing = ours - formed
        assert not differing, f"{differing.total()}, such as {next(iter(differing))}"
        assert ours == formed


@pytest.mark.parametrize("name", LETTERS)
def test_a_document_of_each_subject_is_scored_as_by_the_library_s_metric(
    name: str, library: Any, asked: Any, shadows: Path, family: Any
) -> None:
    folder = family.runs["export"] / "exports" / "soup"
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    harness = Harness(shadows)
    task = harness.load(config(name))
    first: dict[str, int] = {}
    for number, subject in enumerate(task.eval_docs["subject"]):
        first.setdefault(subject, number)
    assert len(first) == 57
    task.build_all_requests(samples=[*first.values()])
    scored = harness.language_model(folder, batch_size=4).loglikelihood(task.instances)
    right = 0.0
    for number, subject in enumerate(first):
        mine = slice(4 * number, 4 * number + 4)
        context = model.config.max_position_embeddings
        theirs = asked(subject, Formed(name, tokenizer), context, documents=1)
        batch = theirs.collate_fn(theirs.samples)
        metric = library.metrics.ICLMetric(metric_type="acc")
        metric.reset()
        with torch.no_grad():
            metric.update(batch, model(batch["input_ids"]).logits)
        nats = [value for _, _, value in metric.loglikelihoods]
        assert [value for value, _ in scored[mine]] == pytest.approx(nats, rel=1e-4), subject
        doc = task.instances[mine][0].doc
        assert doc["subject"] == subject
        acc = task.process_results(doc, scored[mine])["acc"]
        assert acc == metric.compute()["acc_v1"], subject
        right += acc
    assert 0 < right < len(first)
