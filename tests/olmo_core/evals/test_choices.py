"""Accuracies equal those that a few lines compute from the model's own log-likelihoods."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.task import ConfigurableTask
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmo_core.config.evals import TaskConfig
from olmo_core.evals.harness import Harness
from olmo_core.evals.log_likelihood import LogLikelihood
from olmo_core.evals.task_data import build_task, write_shadows

TASKS_RUN = ("olmo1_arc_easy", "olmo1_winogrande", "olmo1_boolq")
LIMIT = 12


@pytest.fixture(scope="module")
def folder(family: Any) -> Path:
    return family.runs["export"] / "exports" / "soup"


@pytest.fixture(scope="module")
def harness(family: Any, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    shadows = tmp_path_factory.mktemp("tasks")
    data = [
        build_task(TaskConfig(name=name), family.root / "cache" / "task_data") for name in TASKS_RUN
    ]
    write_shadows(data, shadows, datasets_cache=shadows / "datasets")
    return Harness(shadows)


def log_likelihood(model: Any, tokenizer: Any, context: str, text: str) -> tuple[float, int]:
    """Nats of `text` after `context`, and its tokens."""
    whole, before = (tokenizer(each)["input_ids"] for each in (context + text, context))
    text_ids = torch.tensor(whole[len(before) :])
    ids = torch.tensor(whole[-model.config.max_position_embeddings - 1 :])
    with torch.no_grad():
        logits = model(ids[None, :-1]).logits[0].double().log_softmax(-1)
    nats = logits[-len(text_ids) :].gather(1, text_ids[:, None]).sum()
    return float(nats), len(text_ids)


@pytest.mark.parametrize("name", TASKS_RUN)
def test_scores_per_document(harness: Harness, folder: Path, name: str) -> None:
    language_model = harness.language_model(folder, batch_size=4)
    rows = harness.score(language_model, TaskConfig(name=name, limit=LIMIT))["rows"]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    task = harness.load(TaskConfig(name=name))
    documents: dict[int, list[Any]] = {}
    for instance in task.instances:
        documents.setdefault(instance.doc_id, []).append(instance)
    right: dict[str, list[float]] = {}
    for instances in documents.values():
        scores: dict[str, list[float]] = {}
        choices = len(task.doc_to_choice(instances[0].doc))
        for instance in instances[:choices]:
            context, text = instance.args
            nats, tokens = log_likelihood(model, tokenizer, context, text)
            assert instance.resps[0][0] == pytest.approx(nats, rel=1e-4)
            scores.setdefault("acc", []).append(nats)
            scores.setdefault("acc_per_char", []).append(nats / len(text))
            scores.setdefault("acc_per_token", []).append(nats / tokens)
            if name == "olmo1_arc_easy":
                without, _ = log_likelihood(model, tokenizer, "Answer:", text)
                scores.setdefault("acc_uncond", []).append(nats - without)
        answer = task.doc_to_text if task.multiple_input else task.doc_to_target
        for metric, values in scores.items():
            best = values.index(max(values)) == answer(instances[0].doc)
            right.setdefault(metric, []).append(float(best))
    assert len(documents) == LIMIT
    assert {row["metric"]: row["value"] for row in rows} == {
        metric: pytest.approx(sum(values) / LIMIT) for metric, values in right.items()
    }


def test_a_hand_worked_document(harness: Harness) -> None:
    """Four answers, each of which is the best by one score alone."""
    texts = ["aa", "a" * 19, "a" * 7, "a" * 11]
    # nats, tokens, nats without context: over 3, 20, 8 and 12 characters, the blank among them
    numbers = [(-2.0, 1, -1.0), (-8.0, 6, -8.0), (-6.0, 6, -4.0), (-9.0, 9, -30.0)]
    results = [(LogLikelihood.of(nats, tokens), False) for nats, tokens, _ in numbers]
    results += [(LogLikelihood.of(without, tokens), False) for _, tokens, without in numbers]
    choices = {"text": texts, "label": [*"ABCD"]}
    right = {
        answer: harness.load(TaskConfig(name="olmo1_arc_easy")).process_results(
            {"question": "?", "choices": choices, "answerKey": answer}, results
        )
        for answer in "ABCD"
    }
    best = {
        metric: [answer for answer in "ABCD" if right[answer][metric] == 1] for metric in right["A"]
    }
    # per token -2, -8/6, -1 and -1, of which the first wins
    assert best == {
        "acc": ["A"],
        "acc_per_char": ["B"],
        "acc_per_token": ["C"],
        "acc_uncond": ["D"],
    }


def test_an_answer_that_is_no_choice_is_refused(harness: Harness) -> None:
    document = {"passage": "", "question": "", "label": 5}
    with pytest.raises(ValueError, match="olmo1_boolq: '-4' is no choice of the document"):
        harness.load(TaskConfig(name="olmo1_boolq")).process_results(document, [])


def test_a_sample_is_asked_as_lm_eval_would(harness: Harness) -> None:
    """Its own iterator reads the whole split to find a few documents."""
    task = harness.load(TaskConfig(name="olmo1_arc_easy"))
    samples = [7, 2, 569]
    expected = [*ConfigurableTask.doc_iterator(task, samples=samples)]
    assert [*task.doc_iterator(samples=samples)] == expected
    assert [number for number, _ in expected] == [0, 1, 2]
    assert [*task.doc_iterator(limit=2)] == [*ConfigurableTask.doc_iterator(task, limit=2)]
