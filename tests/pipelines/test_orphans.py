"""Jobs without a run and runs without a process: found, and brought together again."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.assemble import build_graph
from assets.execution.produce import launch_of, main_line_work
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder, locked
from pipelines.definitions import assembled, build_definitions, main_line
from pipelines.instance import open_instance
from pipelines.launchers.local import LocalLauncher
from pipelines.orphans import Orphans, find_orphans
from pipelines.sensors import MOST_ADOPTIONS, orphan_sensor
from tests.conftest import SilentObserver, toy_graph

OLMO = Path(sys.executable).with_name("olmo")
RUN = """
import sys
from pipelines.cli.run import run_graph
from tests.conftest import toy_graph
sys.exit(run_graph(toy_graph(first={"wait": sys.argv[1]}), ["first"], force=False))
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The job of `first` ends once this file is there."""
    return tmp_path / "gate"


@pytest.fixture
def graph(gate: Path) -> Graph:
    return toy_graph(first={"wait": str(gate)})


@pytest.fixture
def launcher() -> LocalLauncher:
    return LocalLauncher()


@pytest.fixture
def instance(toy_root: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance() as opened:
        yield opened


@pytest.fixture
def job(graph: Graph, launcher: LocalLauncher, toy_root: Path, gate: Path) -> Iterator[RunFolder]:
    """A job at work that no run has started."""
    launch = launch_of(main_line_work(graph, "first", toy_root), toy_root)
    assert launcher.submit([launch])
    wait_for(lambda: launch.folder.read_status() is not None)
    yield launch.folder
    gate.touch()
    with contextlib.suppress(ProcessLookupError):
        launcher.cancel([launch.folder])


def wait_for(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 180  # a Dagster process starts, beside others
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tick(
    graph: Graph, instance: dg.DagsterInstance, launcher: LocalLauncher
) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"launcher": launcher})
    result = orphan_sensor(graph)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def labels(orphans: Orphans) -> list[str]:
    return [place.label for place in orphans.jobs]


def follow(
    graph: Graph, instance: dg.DagsterInstance, launcher: LocalLauncher, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    """What Dagster's daemon does with a request."""
    observer = SilentObserver()
    definitions = assembled(main_line(graph), launcher=launcher, observer=lambda context: observer)
    return definitions.resolve_job_def("toy").execute_in_process(
        instance=instance,
        asset_selection=list(request.asset_selection or []),
        tags=dict(request.tags),
        raise_on_error=False,
    )


def test_a_job_without_a_run_gets_one_that_reports_its_end(
    job: RunFolder,
    gate: Path,
    graph: Graph,
    toy_root: Path,
    instance: dg.DagsterInstance,
    launcher: LocalLauncher,
) -> None:
    assert labels(find_orphans(instance, launcher, toy_root)) == ["toy/first"]
    assert labels(find_orphans(instance, launcher, toy_root, "other")) == []
    result = tick(graph, instance, launcher)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests is not None
    [request] = result.run_requests
    assert request.asset_selection == [dg.AssetKey(["toy", "first"])]
    gate.touch()
    assert follow(graph, instance, launcher, request).success
    assert (graph.folder(toy_root, "first") / "starts").read_text() == "x"
    assert instance.get_latest_materialization_event(dg.AssetKey(["toy", "first"])) is not None
    assert find_orphans(instance, launcher, toy_root).jobs == {}
    assert isinstance(tick(graph, instance, launcher), dg.SkipReason)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_leaves_a_job_that_is_followed_again(
    gate: Path,
    graph: Graph,
    toy_root: Path,
    instance: dg.DagsterInstance,
    launcher: LocalLauncher,
) -> None:
    worker = subprocess.Popen([sys.executable, "-c", RUN, str(gate)])
    wait_for((graph.folder(toy_root, "first") / "starts").exists)
    assert find_orphans(instance, launcher, toy_root) == Orphans(jobs={}, runs=[])
    assert isinstance(tick(graph, instance, launcher), dg.SkipReason)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    orphans = find_orphans(instance, launcher, toy_root)
    assert labels(orphans) == ["toy/first"]
    [run] = orphans.runs
    shown = subprocess.run([OLMO, "orphans", "--json"], capture_output=True, text=True, check=True)
    assert [entry["asset"] for entry in json.loads(shown.stdout)["jobs"]] == ["first"]
    assert [entry["run_id"] for entry in json.loads(shown.stdout)["runs"]] == [run.run_id]
    result = tick(graph, instance, launcher)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests is not None
    closed = instance.get_run_by_id(run.run_id)
    assert closed is not None
    assert closed.status == dg.DagsterRunStatus.FAILURE
    gate.touch()
    [request] = result.run_requests
    assert follow(graph, instance, launcher, request).success
    assert (graph.folder(toy_root, "first") / "starts").read_text() == "x"


def test_a_job_that_no_run_could_follow_is_left_alone(
    job: RunFolder, toy_root: Path, instance: dg.DagsterInstance, launcher: LocalLauncher
) -> None:
    result = tick(toy_graph(first={"value": 7}), instance, launcher)
    assert isinstance(result, dg.SkipReason)
    assert f"at work on version {job.path.name}" in (result.skip_message or "")


def test_runs_that_keep_failing_are_not_requested_for_ever(
    job: RunFolder,
    graph: Graph,
    instance: dg.DagsterInstance,
    launcher: LocalLauncher,
) -> None:
    for _ in range(MOST_ADOPTIONS):
        result = tick(graph, instance, launcher)
        assert isinstance(result, dg.SensorResult)
        assert result.run_requests is not None
        instance.create_run_for_job(
            assembled(main_line(graph)).resolve_job_def("toy"),
            tags=dict(result.run_requests[0].tags),
            status=dg.DagsterRunStatus.FAILURE,
        )
    result = tick(graph, instance, launcher)
    assert isinstance(result, dg.SkipReason)
    assert "3 runs that were to follow it have ended" in (result.skip_message or "")


def test_the_request_is_one_that_dagster_takes(
    toy_root: Path,
    instance: dg.DagsterInstance,
    launcher: LocalLauncher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a whole recipe, with its sweep: as the daemon evaluates the sensor."""
    monkeypatch.setenv("OLMO_RECIPES", str(Path(__file__).parents[1] / "recipes"))
    tiny = build_graph(load_recipe("tiny"))
    folder = RunFolder(tiny.folder(toy_root, "raw") / tiny.fingerprints["raw"].version)
    folder.path.mkdir(parents=True)
    write_json(folder.launch, {"schema_version": 1, "engine": "local"})
    repository = build_definitions(["tiny"]).get_repository_def()
    with locked(folder.path / "job.lock"):  # as the job's own process holds it
        context = dg.build_sensor_context(
            instance=instance, repository_def=repository, resources={"launcher": launcher}
        )
        data = repository.get_sensor_def("tiny_orphans").evaluate_tick(context)
    assert data.run_requests is not None
    [request] = data.run_requests
    assert request.asset_selection == [dg.AssetKey(["tiny", "raw"])]
    assert request.job_name is not None
    job = repository.get_maybe_subset_job_def(
        request.job_name, asset_selection={dg.AssetKey(["tiny", "raw"])}
    )
    assert "tiny__raw" in {node.name for node in job.nodes_in_topological_order}
