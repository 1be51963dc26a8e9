"""A backfill over checkpoints: one run, jobs queued together, each partition reported by itself."""

import contextlib
import itertools
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.evals.sweep import sweep_node, sweep_work
from assets.execution.materialise import build_asset, build_sweep_check
from assets.execution.partitions import checkpoint_partitions
from assets.execution.produce import launch_of
from assets.graph import Graph
from assets.launcher import JobState, Launch, Launcher
from assets.reporting.observe import Tally
from olmo_core.run.folder import RunFolder
from pipelines.definitions import assembled
from pipelines.launchers.local import LocalLauncher
from pipelines.orphans import _partitions
from pipelines.site.file import Site
from tests.pipelines.evaluations import MODULE, checkpoint, save_checkpoints, sweep_graph
from tests.pipelines.kills import CANCEL_SECONDS

KEYS = [f"stage1@step{number}" for number in range(1, 5)]
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
DOWNSTREAM, PERPLEXITY = (
    dg.AssetKey(["toy", name]) for name in ("checkpoint_downstream", "checkpoint_perplexity")
)


@dataclass(kw_only=True)
class Queueing(LocalLauncher):
    """An engine with a queue: what it is given at once is kept, and run here side by side."""

    given: list[list[str]] = field(default_factory=list[list[str]])
    ended: list[int] = field(default_factory=list[int])  # how many at once

    def queues(self, launch: Launch) -> bool:
        return True

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        started = super().submit([replace(launch, in_turn=False) for launch in launches])
        self.given.append([called(launch) for launch in started])
        return started

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        self.ended.append(sum(self.state(folder).alive for folder in folders))
        super().cancel(folders)


def called(launch: Launch) -> str:
    return f"{launch.identity['asset']} {launch.identity['partition']}"


@pytest.fixture
def graph(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.setattr("assets.evals.sweep.MODULE", MODULE)
    made = sweep_graph("toy", wait=str(tmp_path / "gate"))
    save_checkpoints(made, toy_root, KEYS)
    (tmp_path / "gate").touch()
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        opened.add_dynamic_partitions("toy_checkpoints", KEYS)
        yield opened


def backfill(
    graph: Graph, instance: dg.DagsterInstance, launcher: Launcher, last: str = KEYS[-1]
) -> dg.ExecuteInProcessResult:
    """The run that Dagster makes of a backfill from the first checkpoint to the last."""
    return sweep(graph, instance, launcher, {FIRST: KEYS[0], LAST: last})


def sweep(
    graph: Graph,
    instance: dg.DagsterInstance,
    launcher: Launcher,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """A run of both assets; without tags that of the sensor, for all checkpoints."""
    assets = [
        build_asset(graph, sweep_node(graph, key.path[-1])) for key in (DOWNSTREAM, PERPLEXITY)
    ]
    job = dg.define_asset_job("toy_sweep", selection=[DOWNSTREAM, PERPLEXITY])
    definitions = assembled(dg.Definitions(assets=assets, jobs=[job]), launcher=launcher)
    return definitions.resolve_job_def("toy_sweep").execute_in_process(
        instance=instance,
        tags=tags,
        raise_on_error=False,
    )


def reported(
    instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, key: dg.AssetKey
) -> dict[str | None, dg.AssetMaterialization]:
    """What the run has materialised of an asset, by partition; each once."""
    logs = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    all_of_them = [entry.asset_materialization for entry in logs]
    events = [event for event in all_of_them if event is not None and event.asset_key == key]
    assert len({event.partition for event in events}) == len(events)
    return {event.partition: event for event in events}


def values(events: dict[str | None, dg.AssetMaterialization]) -> dict[str | None, object]:
    return {key: event.metadata["value"].value for key, event in events.items()}


ALL = [f"{key.path[-1]} {checkpoint}" for key in (DOWNSTREAM, PERPLEXITY) for checkpoint in KEYS]


def test_one_run_queues_all_together_and_reports_each_partition_with_its_own_figures(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    launcher = Queueing(site=Site())
    result = backfill(graph, instance, launcher)
    assert result.success
    assert [sorted(given) for given in launcher.given] == [ALL]  # the second step has none left
    for key in (DOWNSTREAM, PERPLEXITY):
        events = reported(instance, result, key)
        assert values(events) == {name: 11 + number for number, name in enumerate(KEYS)}
        for name, event in events.items():
            work = sweep_work(graph, key.path[-1], str(name), toy_root)
            assert (event.tags or {})["dagster/data_version"] == work.fingerprint.value
            folder = work.parent / work.fingerprint.version
            assert event.metadata["path"].value == str(folder)
            how = "launched" if key == DOWNSTREAM else "following"  # what the first has submitted
            said = [entry.user_message for entry in instance.all_logs(result.run_id)]
            assert f"{key.path[-1]} {name}: {how}; {folder}" in said
        assert instance.get_materialized_partitions(key) == set(KEYS)
    again = backfill(graph, instance, launcher)
    assert again.success
    assert launcher.given == launcher.given[:1]
    hows = {
        str(event.metadata["how"].value) for event in reported(instance, again, DOWNSTREAM).values()
    }
    assert hows == {"finished before"}


def test_failing_partitions_are_named_the_others_made_and_a_second_run_makes_what_is_missing(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    (checkpoint(graph, toy_root, KEYS[1]) / "value").unlink()
    instance.add_dynamic_partitions("toy_checkpoints", ["stage1@step9"])
    launcher = Queueing(site=Site())
    result = backfill(graph, instance, launcher, last="stage1@step9")
    assert not result.success
    failure = result.failure_data_for_node("toy__checkpoint_downstream")
    assert failure is not None
    assert failure.error is not None
    said = failure.error.message
    assert "2 of 5 partitions have no result" in said
    assert "no whole checkpoint stage1@step9" in said
    assert f"\n{KEYS[1]}: FileNotFoundError: [Errno 2] No such file" in said
    assert KEYS[0] not in said
    for key in (DOWNSTREAM, PERPLEXITY):
        assert set(reported(instance, result, key)) == {KEYS[0], *KEYS[2:]}

    (checkpoint(graph, toy_root, KEYS[1]) / "value").write_text("2")
    second = backfill(graph, instance, launcher)
    assert second.success
    assert sorted(launcher.given[-1]) == [name for name in ALL if name.endswith(KEYS[1])]
    assert values(reported(instance, second, DOWNSTREAM))[KEYS[1]] == 12
    starts = [path.read_text() for path in toy_root.glob("toy/checkpoint_*/*/starts")]
    assert sorted(starts) == ["x"] * 6 + ["xx"] * 2


def test_a_job_that_is_at_work_is_followed_and_not_submitted_again(
    graph: Graph, toy_root: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    (tmp_path / "gate").unlink()
    launcher = Queueing(site=Site())
    early = launch_of(sweep_work(graph, "checkpoint_downstream", KEYS[2], toy_root), toy_root)
    assert LocalLauncher().submit([early])
    results: list[dg.ExecuteInProcessResult] = []
    run = threading.Thread(
        target=lambda: results.append(backfill(graph, instance, launcher)), daemon=True
    )
    run.start()
    while not launcher.given:
        run.join(0.05)
        assert run.is_alive()
    (tmp_path / "gate").touch()
    run.join(60)
    assert results[0].success
    assert sorted(launcher.given[0]) == [name for name in ALL if name != called(early)]
    events = reported(instance, results[0], DOWNSTREAM)
    assert events[KEYS[2]].metadata["how"].value == "following"
    assert events[KEYS[0]].metadata["how"].value == "launched"
    assert (early.folder.path.parent / "starts").read_text() == "x"


def test_a_cancelled_backfill_ends_every_job_of_it_and_no_other(
    graph: Graph, toy_root: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    (tmp_path / "gate").unlink()
    launcher = Queueing(site=Site())
    other = sweep_work(graph, "checkpoint_downstream", KEYS[3], toy_root)
    bystander = launch_of(other, toy_root)
    LocalLauncher().submit([bystander])

    def run() -> None:
        with contextlib.suppress(dg.DagsterExecutionInterruptedError):
            backfill(graph, instance, launcher, last=KEYS[2])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not (launcher.given and at_work(toy_root) == 7):
        thread.join(0.05)
        assert thread.is_alive()
    [record] = instance.get_runs()
    instance.report_run_canceling(record)
    thread.join(CANCEL_SECONDS)
    assert not thread.is_alive()
    assert launcher.ended == [6]
    assert at_work(toy_root) == 1
    assert bystander.folder.is_running()
    (tmp_path / "gate").touch()


def at_work(root: Path) -> int:
    """How many evaluations a process is at work on."""
    folders = [path.parent for path in root.glob("toy/checkpoint_*/*/*/launch.json")]
    return sum(RunFolder(folder).is_running() for folder in folders)


def test_while_it_goes_on_the_asset_shows_how_many_are_how_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assets.reporting.observe.FIRST_AFTER_SECONDS", 0.0)
    seen: list[dict[str, object]] = []

    class Context:
        asset_key = DOWNSTREAM
        log = logging.getLogger("toy")

        def log_event(self, event: dg.AssetObservation) -> None:
            assert event.partition is None
            seen.append({name: value.value for name, value in event.metadata.items()})

    context: Any = Context()
    tally = Tally(context, 200)
    waits = "job 7_5 pending: Resources"
    tally.state("a", JobState(alive=True, queued=True, description=waits))
    tally.state("b", JobState(alive=True, queued=True, description=waits))
    assert seen == [{"state": f"1 waiting ({waits})", "progress": "0 of 200 partitions"}]
    tally.state("b", JobState(alive=True, description="job 7_6 running on n1"))
    tally.ended("c", None)
    tally.ended("d", RuntimeError("no"))
    assert len(seen) == 1  # not one per event: the next is due in a minute
    tally.pace.next = 0.0
    tally.progress("b", {})
    assert seen[1:] == [
        {
            "state": f"1 at work, 1 waiting ({waits})",
            "progress": "1 of 200 partitions",
            "failed": "d",
        }
    ]


def test_where_the_engine_has_no_queue_jobs_run_one_after_the_other(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    result = backfill(graph, instance, LocalLauncher(site=Site()), last=KEYS[1])
    assert result.success
    assert set(reported(instance, result, PERPLEXITY)) == set(KEYS[:2])
    times = [
        (content["started"], content["finished"])
        for path in toy_root.glob("toy/checkpoint_*/*/*/result.json")
        if (content := json.loads(path.read_text()))
    ]
    ordered = sorted(times)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ordered))


def test_a_backfill_is_one_run_by_its_policy_and_follows_all_its_partitions(
    graph: Graph, instance: dg.DagsterInstance
) -> None:
    asset = build_asset(graph, sweep_node(graph, "checkpoint_downstream"))
    assert asset.backfill_policy == dg.BackfillPolicy.single_run()
    assert asset.partitions_def == checkpoint_partitions("toy")
    tags = {FIRST: KEYS[1], LAST: KEYS[3]}
    run = dg.DagsterRun(job_name="j", tags=tags, asset_selection={DOWNSTREAM})
    assert _partitions(instance, run) == KEYS[1:]


def test_the_check_of_all_checkpoints_runs_beside_one_partition(
    graph: Graph, instance: dg.DagsterInstance
) -> None:
    definitions = assembled(
        dg.Definitions(
            assets=[build_asset(graph, sweep_node(graph, "checkpoint_downstream"))],
            asset_checks=[build_sweep_check(graph, "checkpoint_downstream")],
            jobs=[dg.define_asset_job("one", selection=dg.AssetSelection.assets(DOWNSTREAM))],
        ),
        launcher=LocalLauncher(site=Site()),
    )
    job = definitions.resolve_job_def("one")
    result = job.execute_in_process(instance=instance, partition_key=KEYS[0])
    assert result.success
    [evaluation] = result.get_asset_check_evaluations()
    assert evaluation.passed
    assert evaluation.description == "checkpoints evaluated: 1"


def test_a_run_without_a_partition_makes_what_all_lack_and_takes_up_what_appears_meanwhile(
    graph: Graph, toy_root: Path, instance: dg.DagsterInstance
) -> None:
    late, bad = checkpoint(graph, toy_root, KEYS[3]), checkpoint(graph, toy_root, KEYS[1])
    away = late.rename(late.with_name("away"))
    (bad / "value").unlink()
    [known, left] = KEYS[0], "stage1@step9"  # the second is of an earlier version of the recipe
    done = sweep_work(graph, "checkpoint_perplexity", known, toy_root)
    LocalLauncher(site=Site()).submit([launch_of(done, toy_root)])
    while done.finished() is None:  # by `olmo sweep`, say: no run has reported it
        time.sleep(0.05)
    for key in KEYS:
        instance.delete_dynamic_partition("toy_checkpoints", key)
    instance.add_dynamic_partitions("toy_checkpoints", [left])

    class Late(LocalLauncher):
        def submit(self, launches: Sequence[Launch]) -> list[Launch]:
            if away.exists() and launches[0].identity["partition"] == KEYS[2]:
                away.rename(late)
            return super().submit(launches)

    result = sweep(graph, instance, Late(site=Site()))
    assert not result.success
    failure = result.failure_data_for_node("toy__checkpoint_downstream")
    assert failure is not None
    assert failure.error is not None
    assert "1 of 4 partitions have no result" in failure.error.message
    assert f"\n{KEYS[1]}: FileNotFoundError" in failure.error.message
    whole = {KEYS[0]: 11, KEYS[2]: 13, KEYS[3]: 14}
    for key in (DOWNSTREAM, PERPLEXITY):
        assert values(reported(instance, result, key)) == whole
    hows = reported(instance, result, PERPLEXITY)
    assert hows[known].metadata["how"].value == "finished before"
    assert set(instance.get_dynamic_partitions("toy_checkpoints")) == set(KEYS)
    statuses = [json.loads(path.read_text()) for path in toy_root.glob("toy/*/*/*/status.json")]
    assert len({status["pid"] for status in statuses}) == 2  # that of `known`, and one for all

    (bad / "value").write_text("2")
    second = sweep(graph, instance, LocalLauncher(site=Site()))
    assert second.success
    for key in (DOWNSTREAM, PERPLEXITY):
        assert values(reported(instance, second, key)) == {KEYS[1]: 12}  # and nothing again
    starts = [path.read_text() for path in toy_root.glob("toy/checkpoint_*/*/starts")]
    assert sorted(starts) == ["x"] * 6 + ["xx"] * 2


def test_a_run_without_a_partition_follows_every_checkpoint(
    graph: Graph, instance: dg.DagsterInstance
) -> None:
    selected = dg.DagsterRun(job_name="j", asset_selection={DOWNSTREAM})
    assert _partitions(instance, selected) == [None, *KEYS]
    assert _partitions(instance, dg.DagsterRun(job_name="j", tags={"recipe": "toy"})) == [
        None,
        *KEYS,
    ]
