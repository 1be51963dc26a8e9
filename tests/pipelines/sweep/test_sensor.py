"""The sweep's daemon side: new checkpoints become partitions and requests, each once."""

from pathlib import Path

import dagster as dg

from assets.evals.sweep import sweep_work
from assets.graph import Graph
from tests.pipelines.sweep.steps import evaluate, finish, nightly, save


def test_the_sensor_adds_each_checkpoint_once(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    assert isinstance(evaluate(graph, instance), dg.SkipReason)
    save(graph, toy_root, "stage1", 20)
    result = evaluate(graph, instance)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests is not None
    assert [request.partition_key for request in result.run_requests] == ["stage1@step20"]
    assert result.dynamic_partitions_requests is not None
    [request] = result.dynamic_partitions_requests
    assert list(request.partition_keys) == ["stage1@step20"]
    assert isinstance(evaluate(graph, instance, result.cursor), dg.SkipReason)
    save(graph, toy_root, "stage1", 40)
    instance.add_dynamic_partitions("tiny_checkpoints", ["stage1@step40"])  # by a training's run
    result = evaluate(graph, instance, result.cursor)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests is not None
    assert [request.partition_key for request in result.run_requests] == ["stage1@step40"]
    assert isinstance(evaluate(graph, instance, result.cursor), dg.SkipReason)


def test_the_schedule_requests_what_lacks_an_evaluation(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    save(graph, toy_root, "stage1", 20)
    save(graph, toy_root, "stage1", 40)
    for name in ("checkpoint_downstream", "checkpoint_perplexity"):
        work = sweep_work(graph, name, "stage1@step20", toy_root)
        finish(work.parent / work.fingerprint.version)
    assert nightly(graph, instance) == ["stage1@step40"]
    assert instance.get_dynamic_partitions("tiny_checkpoints") == ["stage1@step40"]


def test_partitions_of_an_earlier_version_of_the_recipe_leave(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("tiny_checkpoints", ["stage1@step20", "stage1@step99"])
    evaluate(graph, instance)  # no folder of results: its file system is not mounted, perhaps
    save(graph, toy_root, "stage1", 20)
    save(graph, toy_root, "stage1", 40)
    [damaged] = toy_root.glob("tiny/stage1/*/checkpoints/step40/train.json")
    damaged.unlink()
    instance.add_dynamic_partitions("tiny_checkpoints", ["stage1@step40"])
    result = evaluate(graph, instance)
    assert isinstance(result, dg.SensorResult)
    added, deleted = result.dynamic_partitions_requests or []
    assert list(added.partition_keys) == ["stage1@step20"]
    assert list(deleted.partition_keys) == ["stage1@step99"]  # the damaged one is still there
    again = evaluate(graph, instance, result.cursor)
    assert isinstance(again, dg.SensorResult)
    assert not again.run_requests
    assert nightly(graph, instance) == ["stage1@step20"]
    kept = {"stage1@step20", "stage1@step40"}
    assert set(instance.get_dynamic_partitions("tiny_checkpoints")) == kept
    assert isinstance(evaluate(graph, instance, result.cursor), dg.SkipReason)


def test_a_checkpoint_of_the_same_name_of_another_run_is_requested_too(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    save(graph, toy_root, "stage1", 20)
    first = evaluate(graph, instance)
    assert isinstance(first, dg.SensorResult)
    [folder] = toy_root.glob("tiny/stage1/*")
    folder.rename(folder.with_name(f"{folder.name}.2"))  # a forced repeat
    second = evaluate(graph, instance, first.cursor)
    assert isinstance(second, dg.SensorResult)
    keys = [[request.run_key for request in each.run_requests or []] for each in (first, second)]
    assert keys == [[f"stage1@step20 {folder.name}"], [f"stage1@step20 {folder.name}.2"]]
