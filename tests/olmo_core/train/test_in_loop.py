"""Evaluation within the training loop: what it changes (nothing), writes, refuses and survives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from olmo_core.checkpoint.weights import load_model
from olmo_core.evals.perplexity.scoring import score_documents
from olmo_core.run.folder import read_metrics

Train = Callable[..., int]
Ranks = Callable[..., list[int | None]]
LOSS = "eval/prose-validation/CrossEntropyLoss"
EXIT_CONFIG, EXIT_STOPPED = 2, 4


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A token file of 60 documents, some longer than a window."""
    rng = np.random.default_rng(3)
    documents = [[*rng.integers(2, 100, rng.integers(1, 90)), 0] for _ in range(60)]
    path = tmp_path_factory.mktemp("validation") / "val.npy"
    np.concatenate(documents).astype("<u2").tofile(path)
    return str(path)


def evaluators(validation: str, *more: dict[str, Any]) -> list[str]:
    sets = {
        "label": "small-ppl-validation",
        "data": {"datasets": {"prose-validation": [validation]}},
    }
    value = yaml.safe_dump([sets, *more], default_flow_style=True, width=10_000).strip()
    return [f"evaluators={value}", "eval_interval=5", "device_eval_batch_size=4"]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of evaluations, as they were written."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "evaluation" in row]


def figures(folder: Path) -> dict[int, float]:
    return {row["step"]: row[LOSS] for row in rows(folder)}


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def state(folder: Path, step: int) -> dict[str, bytes]:
    """All files of weights and moments of a checkpoint."""
    place = folder / "checkpoints" / f"step{step}" / "model_and_optim"
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_it_changes_no_weight_no_moment_and_no_batch(
    train: Train, undisturbed: Path, validation: str, tmp_path: Path
) -> None:
    assert train("run", *evaluators(validation), moment="note instances") == 0
    run = tmp_path / "run"
    assert weights(run) == weights(undisturbed)
    for step in (4, 8, 12):
        assert state(run, step) == state(undisturbed, step)
    assert [*figures(run)] == [5, 10, 12]  # each interval, and the end
    losses = [*figures(run).values()]
    assert all(3 < loss < 6 for loss in losses)
    assert len(set(losses)) == 3
    merged = {row["step"]: row for row in read_metrics(run / "metrics.jsonl")}
    assert [*merged] == [*range(1, 13)]
    assert merged[5][LOSS] == losses[0]
    assert merged[5]["evaluation"]["documents"][LOSS] == 60
    asked = {row["evaluation"]["asked"][LOSS] for row in rows(run)}
    assert [len(digest) for digest in asked] == [64]
    assert "train/CrossEntropyLoss" in merged[5]
    perplexity = merged[5]["eval/prose-validation/Perplexity"]
    assert perplexity == pytest.approx(np.exp(losses[0]), rel=1e-12)


def test_a_stop_neither_loses_nor_repeats_an_evaluation(
    train: Train, validation: str, tmp_path: Path
) -> None:
    given = [*evaluators(validation), "eval_interval=4"]
    assert train("whole", *given) == 0
    assert train("run", *given, "stop_after=4") == EXIT_STOPPED
    assert figures(tmp_path / "run") == {}  # as in OLMo, where a run is being stopped
    assert train("run", *given, "stop_after=2") == EXIT_STOPPED
    assert train("run", *given) == 0
    assert [row["step"] for row in rows(tmp_path / "run")] == [4, 8, 12]
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def test_a_stop_while_it_evaluates_is_heeded_and_the_evaluation_made_again(
    train: Train, validation: str, tmp_path: Path
) -> None:
    given = [*evaluators(validation), "extra_steps_after_cancel=1"]
    assert train("whole", *given) == 0
    assert train("run", *given, moment="SIGTERM in the second evaluation") == EXIT_STOPPED
    assert [*figures(tmp_path / "run")] == [5]
    assert train("run", *given) == 0
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "run")] == [5, 10, 12]
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_stop_in_the_last_evaluation_leaves_a_run_that_ends_by_it(
    train: Train, validation: str, tmp_path: Path
) -> None:
    given = [*evaluators(validation), "eval_interval=100"]
    assert train("run", *given, moment="SIGTERM in the first evaluation") == EXIT_STOPPED
    assert rows(tmp_path / "run") == []
    assert train("run", *given) == 0
    assert [*figures(tmp_path / "run")] == [12]


def test_a_failure_is_recorded_and_training_goes_on(
    train: Train, undisturbed: Path, validation: str, tmp_path: Path
) -> None:
    assert train("run", *evaluators(validation), moment="the first evaluation fails") == 0
    first, second, last = (row["evaluation"] for row in rows(tmp_path / "run"))
    assert first["failed"] == {"small-ppl-validation": "RuntimeError: rank 0: OSError: no device"}
    assert first["evaluated"] == []
    assert second["failed"] == last["failed"] == {}
    assert "small-ppl-validation could not be evaluated: " in (tmp_path / "said.txt").read_text()
    assert weights(tmp_path / "run") == weights(undisturbed)


def test_what_cannot_be_had_is_refused_before_the_first_step_or_left_out_and_named(
    train: Train, validation: str, tmp_path: Path
) -> None:
    more = (
        {"label": "piqua", "type": "downstream"},
        {"label": "hellaswag", "type": "downstream"},
        {"label": "gone", "data": {"paths": [f"{tmp_path}/gone.npy"]}},
    )
    given = evaluators(validation, *more)
    assert train("run", *given) == EXIT_CONFIG
    said = (tmp_path / "said.txt").read_text()
    for part in (
        "evaluators: piqua: no such label; did you mean 'piqa'?",
        "hellaswag: its texts need the run's tokenizer, and tokenizer.identifier, 'gpt2', is no",
        f"gone: {tmp_path}/gone.npy: no such file",
        "Or train without them: core.evaluators=skip_missing",
    ):
        assert part in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert train("run", *given, "core.evaluators=skip_missing") == 0
    assert "training goes on without piqua: no such label" in (tmp_path / "said.txt").read_text()
    assert [*figures(tmp_path / "run")] == [5, 10, 12]


@pytest.mark.parametrize("strategy", ["fsdp", "ddp"])
def test_two_ranks_share_the_documents_and_get_the_same_figures(
    ranks: Ranks, validation: str, tmp_path: Path, strategy: str
) -> None:
    given = (*evaluators(validation), f"distributed_strategy={strategy}")
    assert ranks("plain", 2, f"distributed_strategy={strategy}") == [0, 0]
    assert ranks("one", 1, *given) == [0]
    assert ranks("two", 2, *given) == [0, 0]
    assert weights(tmp_path / "two") == weights(tmp_path / "plain")
    for step in (4, 12):
        assert state(tmp_path / "two", step) == state(tmp_path / "plain", step)
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert [*two] == [5, 10, 12]
    assert two == pytest.approx(one, rel=1e-4)  # the weights are equal but for rounding


def test_where_training_is_in_bfloat16_it_is_in_float32_as_far_as_the_weights_are(
    train: Train, ranks: Ranks, validation: str, tmp_path: Path
) -> None:
    given = (*evaluators(validation), "precision=amp_bf16", "eval_interval=100")
    assert train("one", *given) == 0
    ids = np.fromfile(validation, "<u2")
    documents = np.split(ids, np.nonzero(ids == 0)[0] + 1)
    model = load_model(tmp_path / "one" / "model")
    scored = [
        *score_documents(
            [model],
            [document[:-1] for document in documents if len(document)],
            eos_token_id=0,
            max_window=2048,
            batch_tokens=128,
        )
    ]
    loss = -sum(nats for _, nats in scored) / sum(tokens for tokens, _ in scored)
    assert figures(tmp_path / "one") == pytest.approx({12: loss}, abs=1e-6)
    plain = ("precision=amp_bf16", "fsdp={precision: mixed}")
    assert ranks("plain", 2, *plain) == [0, 0]
    assert ranks("two", 2, *given, *plain) == [0, 0]
    assert weights(tmp_path / "two") == weights(tmp_path / "plain")
    assert figures(tmp_path / "two") == pytest.approx({12: loss}, abs=3e-2)


def test_compiled_and_recomputed_blocks_run_as_they_are_written(
    train: Train, validation: str, tmp_path: Path
) -> None:
    given = ("activation_checkpointing=whole_layer", "compile={backend: eager, fullgraph: true}")
    assert train("plain", *given) == 0
    assert train("run", *given, *evaluators(validation)) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "plain")
    assert all(not row["evaluation"]["failed"] for row in rows(tmp_path / "run"))
    assert [*figures(tmp_path / "run")] == [5, 10, 12]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_holds_up_no_other(
    ranks: Ranks, validation: str, tmp_path: Path, failing: int
) -> None:
    moment = f"the first evaluation fails on rank {failing}"
    given = (*evaluators(validation), "distributed_strategy=ddp")
    assert ranks("run", 2, *given, moment=moment) == [0, 0]
    first, second, _ = (row["evaluation"] for row in rows(tmp_path / "run"))
    [said] = first["failed"].values()
    assert said == f"RuntimeError: rank {failing}: OSError: no device"
    assert second["failed"] == {}


def test_a_loaded_checkpoint_is_evaluated_where_eval_on_load_says_so(
    train: Train, undisturbed: Path, validation: str, tmp_path: Path
) -> None:
    given = (*evaluators(validation), f"load_path={undisturbed}/checkpoints/step8")
    assert train("no", *given) == 0
    assert train("yes", *given, "eval_on_load=true") == 0
    assert [*figures(tmp_path / "no")] == [10, 12]
    assert [*figures(tmp_path / "yes")] == [8, 10, 12]
