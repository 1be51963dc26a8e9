"""The evaluations that checkpoints lack: found, and queued together."""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg

from assets.evals.sweep import checkpoints, sweep_work
from assets.execution.produce import launch_of
from assets.graph import Graph
from assets.launcher import EngineUnavailable, Launch
from olmo_core.run.folder import locked
from pipelines.definitions import build_definitions
from pipelines.launchers.router import Router
from pipelines.sensors import checkpoint_sensor
from pipelines.sweep import lacking
from tests.pipelines.sweep.steps import ALL, Arrays, asked, finish, named, save


def test_what_checkpoints_lack_is_found(evaluable: Graph, toy_root: Path) -> None:
    swept = checkpoints(evaluable, toy_root)
    assert asked(lacking(evaluable, toy_root, swept)) == ALL
    work = sweep_work(evaluable, *ALL[2], toy_root)
    finish(work.parent / work.fingerprint.version)
    found = lacking(evaluable, toy_root, swept)
    assert asked(found) == ALL[:2] + ALL[3:]
    assert found.finished == 1


def test_what_cannot_be_launched_is_named(graph: Graph, toy_root: Path) -> None:
    save(graph, toy_root, "stage1", 20)
    found = lacking(graph, toy_root, checkpoints(graph, toy_root))
    assert found.works == []
    assert "tokenizer has not been made" in found.refused["checkpoint_downstream stage1@step20"]


def test_the_sensor_and_the_schedule_queue_together_what_they_request(
    evaluable: Graph, toy_root: Path, instance: dg.DagsterInstance, launcher: Router, arrays: Arrays
) -> None:
    context = dg.build_sensor_context(instance=instance, resources={"launcher": launcher})
    result = checkpoint_sensor(evaluable)(context)
    assert isinstance(result, dg.SensorResult)
    assert [named(given) for given in arrays.given] == [ALL]
    at = datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.UTC)
    repository = build_definitions(["tiny"]).get_repository_def()
    nightly = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=repository,
        resources={"launcher": launcher},
    )
    data = repository.get_schedule_def("tiny_nightly_sweep").evaluate_tick(nightly)
    assert len({request.run_key for request in data.run_requests or []}) == 2
    assert [named(given) for given in arrays.given] == [ALL, ALL]


def test_jobs_at_work_are_not_queued_again(
    evaluable: Graph, toy_root: Path, launcher: Router, arrays: Arrays
) -> None:
    works = lacking(evaluable, toy_root, checkpoints(evaluable, toy_root)).works
    launches = [launch_of(work, toy_root, own_folder=True) for work in works]
    with locked(launches[1].folder.path / "job.lock"):  # as the job's own process holds it
        assert named(launcher.submit(launches)) == [ALL[0], *ALL[2:]]


def test_an_engine_that_does_not_answer_keeps_no_run_from_being_requested(
    evaluable: Graph, instance: dg.DagsterInstance, launcher: Router, arrays: Arrays
) -> None:
    def silent(launches: Sequence[Launch]) -> list[Launch]:
        raise EngineUnavailable("no answer")

    arrays.submit = silent
    context = dg.build_sensor_context(instance=instance, resources={"launcher": launcher})
    result = checkpoint_sensor(evaluable)(context)
    assert isinstance(result, dg.SensorResult)
    assert len(result.run_requests or []) == 2


def test_what_this_machine_lacks_keeps_no_other_evaluation_from_being_queued(
    evaluable: Graph, toy_root: Path, instance: dg.DagsterInstance, launcher: Router, arrays: Arrays
) -> None:
    perplexity = replace(evaluable.nodes["perplexity"], lacks=lambda: ["set paloma: not here"])
    graph = replace(evaluable, nodes={**evaluable.nodes, "perplexity": perplexity})
    context = dg.build_sensor_context(instance=instance, resources={"launcher": launcher})
    assert isinstance(checkpoint_sensor(graph)(context), dg.SensorResult)
    assert [named(given) for given in arrays.given] == [[ALL[0], ALL[2]]]
    found = lacking(graph, toy_root, checkpoints(graph, toy_root))
    assert asked(found) == [ALL[0], ALL[2]]
    why = found.refused["checkpoint_perplexity stage1@step20"]
    assert why == "checkpoint_perplexity: set paloma: not here"
