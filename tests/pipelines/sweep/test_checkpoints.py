"""Which checkpoints are to be evaluated, which are damaged, and which partition is which."""

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from assets.evals.sweep import checkpoints, sweep_work
from assets.graph import Graph
from assets.launcher import Refused
from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.errors import ConfigError
from olmo_core.files import write_json
from pipelines.cli.launch import sweep_recipe
from pipelines.sweep import lacking
from tests.pipelines.sweep.steps import added, asked, evaluate, nightly, save


def test_whole_checkpoints_are_found_in_order_and_others_are_not(
    graph: Graph, toy_root: Path
) -> None:
    save(graph, toy_root, "stage1", 100)
    save(graph, toy_root, "stage1", 20)
    save(graph, toy_root, "stage1", 200, whole=False)
    save(graph, toy_root, "stage1", 210, kind="ephemeral")
    save(graph, toy_root, "stage1", 30)
    [damaged] = toy_root.glob("*/stage1/*/checkpoints/step30")
    damaged.rename(damaged.with_name("step30.corrupt"))  # as a run keeps it aside
    save(graph, toy_root, "stage2_ingredient1", 5)
    assert list(checkpoints(graph, toy_root).whole) == [
        "stage1@step20",
        "stage1@step100",
        "stage2_ingredient1@step5",
    ]


def truncate(train: Path) -> None:
    train.write_text(train.read_text()[:5])


DAMAGES = {
    "missing": Path.unlink,
    "truncated": truncate,
    "of another kind": lambda train: train.write_text("[]"),
    "without its kind": lambda train: train.write_text("{}"),
    "no text": lambda train: train.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=[*DAMAGES])
def test_a_damaged_checkpoint_is_named_and_the_others_go_on(
    graph: Graph,
    toy_root: Path,
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
) -> None:
    for step in (20, 40):
        save(graph, toy_root, "stage1", step)
    [train] = toy_root.glob("tiny/stage1/*/checkpoints/step20/train.json")
    damage(train)
    found = checkpoints(graph, toy_root)
    assert [*found.whole] == ["stage1@step40"]
    assert str(train) in found.damaged["stage1@step20"]
    assert sweep_recipe("tiny", dry_run=True) == 1
    assert f"olmo: stage1@step20: {train}" in capsys.readouterr().err
    with pytest.raises(Refused, match=r"step20/train\.json.*copy the checkpoint back"):
        sweep_work(graph, "checkpoint_downstream", "stage1@step20", toy_root)
    result = evaluate(graph, instance)
    assert isinstance(result, dg.SensorResult)
    assert added(result) == ["stage1@step40"]
    again = evaluate(graph, instance, result.cursor)
    assert isinstance(again, dg.SkipReason)
    assert "damaged: stage1@step20" in str(again.skip_message)
    assert asked(lacking(graph, toy_root, found)) == []  # the tokenizer is not there
    assert nightly(graph, instance) == [None]
    assert instance.get_dynamic_partitions("tiny_checkpoints") == ["stage1@step40"]


def test_a_checkpoint_that_is_deleted_meanwhile_is_not_damaged(
    graph: Graph, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(graph, toy_root, "stage1", 20)

    def deleted(checkpoint: Checkpoint) -> dict[str, object]:
        shutil.rmtree(checkpoint.path)
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(Checkpoint, "read_train", deleted)
    found = checkpoints(graph, toy_root)
    assert (found.whole, found.damaged) == ({}, {})


def test_a_checkpoint_rewritten_with_other_weights_is_another_evaluation(
    graph: Graph, toy_root: Path
) -> None:
    save(graph, toy_root, "stage1", 20)
    before = sweep_work(graph, "checkpoint_perplexity", "stage1@step20", toy_root)
    write_json(checkpoints(graph, toy_root).whole["stage1@step20"] / "manifest.json", {"step": 21})
    after = sweep_work(graph, "checkpoint_perplexity", "stage1@step20", toy_root)
    assert before.fingerprint.value != after.fingerprint.value


def test_a_checkpoint_that_is_not_there_is_named(graph: Graph, toy_root: Path) -> None:
    with pytest.raises(Refused, match="no whole checkpoint stage1@step7"):
        sweep_work(graph, "checkpoint_downstream", "stage1@step7", toy_root)


@pytest.mark.parametrize("key", ["stage1", "../x@step1", "stage1@step1/..", "$(x)@step1"])
def test_a_malformed_partition_is_refused(graph: Graph, toy_root: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="expected <run>@step<N>"):
        sweep_work(graph, "checkpoint_downstream", key, toy_root)
