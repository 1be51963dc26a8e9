"""The sweep's daemon side: new checkpoints become partitions and requests, each once."""

import os
import socket
from pathlib import Path

import dagster as dg

from assets.evals.sweep import sweep_work
from assets.graph import Graph
from pipelines.definitions import build_definitions
from pipelines.launchers.router import Router, site_launcher
from pipelines.site.file import Site
from tests.pipelines.sweep.steps import added, cursor, evaluate, finish, nightly, requested, save


def test_the_sensor_adds_each_checkpoint_once(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance, launcher: Router
) -> None:
    assert isinstance(evaluate(graph, instance, launcher=launcher), dg.SkipReason)
    save(graph, toy_root, "stage1", 20)
    result = evaluate(graph, instance, launcher=launcher)
    assert requested(result) == added(result) == ["stage1@step20"]
    assert isinstance(evaluate(graph, instance, cursor(result), launcher), dg.SkipReason)
    save(graph, toy_root, "stage1", 40)
    instance.add_dynamic_partitions("tiny_checkpoints", ["stage1@step40"])  # by a training's run
    result = evaluate(graph, instance, cursor(result), launcher)
    assert requested(result) == ["stage1@step40"]
    assert isinstance(evaluate(graph, instance, cursor(result), launcher), dg.SkipReason)


def test_without_a_queue_one_run_at_a_time_is_requested_for_all(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    for step in range(30):
        save(graph, toy_root, "stage1", step)
    result = evaluate(graph, instance)
    assert requested(result) == [None]
    assert added(result) == [f"stage1@step{step}" for step in range(30)]
    assert isinstance(result, dg.SensorResult)
    [request] = result.run_requests or []
    save(graph, toy_root, "stage1", 30)
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED):
        run = dg.DagsterRun(job_name="tiny_sweep", tags=dict(request.tags), status=status)
        instance.add_run(run)
        waits = evaluate(graph, instance, result.cursor)
        assert isinstance(waits, dg.SkipReason)
        assert run.run_id in str(waits.skip_message)
        assert nightly(graph, instance) == []
        instance.delete_run(run.run_id)
    assert nightly(graph, instance) == [None]
    again = evaluate(graph, instance, result.cursor)
    assert requested(again) == [None]
    assert added(again) == ["stage1@step30"]
    assert isinstance(again, dg.SensorResult)
    assert isinstance(evaluate(graph, instance, again.cursor), dg.SkipReason)


def test_a_run_whose_process_is_gone_keeps_none_from_being_requested(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    save(graph, toy_root, "stage1", 20)
    gone = {"olmo/pid": f"{os.getpid()} 1", "olmo/host": socket.gethostname()}
    run = dg.DagsterRun(
        job_name="tiny_sweep",
        tags={"olmo/catches_up": "tiny", **gone},
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.add_run(run)
    assert requested(evaluate(graph, instance)) == [None]
    closed = instance.get_run_by_id(run.run_id)
    assert closed is not None
    assert closed.status == dg.DagsterRunStatus.FAILURE  # which Dagster's retry takes up


def test_the_schedule_requests_what_lacks_an_evaluation(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance, launcher: Router
) -> None:
    save(graph, toy_root, "stage1", 20)
    save(graph, toy_root, "stage1", 40)
    for name in ("checkpoint_downstream", "checkpoint_perplexity"):
        work = sweep_work(graph, name, "stage1@step20", toy_root)
        finish(work.parent / work.fingerprint.version)
    assert nightly(graph, instance, launcher) == ["stage1@step40"]
    assert nightly(graph, instance) == [None]
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
    assert nightly(graph, instance) == [None]
    kept = {"stage1@step20", "stage1@step40"}
    assert set(instance.get_dynamic_partitions("tiny_checkpoints")) == kept
    assert isinstance(evaluate(graph, instance, result.cursor), dg.SkipReason)


def test_a_checkpoint_of_the_same_name_of_another_run_is_requested_too(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance, launcher: Router
) -> None:
    save(graph, toy_root, "stage1", 20)
    first = evaluate(graph, instance, launcher=launcher)
    assert isinstance(first, dg.SensorResult)
    [folder] = toy_root.glob("tiny/stage1/*")
    folder.rename(folder.with_name(f"{folder.name}.2"))  # a forced repeat
    second = evaluate(graph, instance, first.cursor, launcher)
    assert isinstance(second, dg.SensorResult)
    keys = [[request.run_key for request in each.run_requests or []] for each in (first, second)]
    assert keys == [[f"stage1@step20 {folder.name}"], [f"stage1@step20 {folder.name}.2"]]


def test_dagster_takes_a_request_without_a_partition(
    toy_root: Path, graph: Graph, instance: dg.DagsterInstance
) -> None:
    save(graph, toy_root, "stage1", 20)
    repository = build_definitions(["tiny"]).get_repository_def()
    context = dg.build_sensor_context(
        instance=instance,
        repository_def=repository,
        resources={"launcher": site_launcher(Site())},
    )
    data = repository.get_sensor_def("tiny_checkpoints").evaluate_tick(context)
    [request] = data.run_requests or []
    assert request.partition_key is None
    assert request.tags["olmo/catches_up"] == "tiny"
