"""Dagster's history, of real runs: failed checks and failed runs, each told once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.assemble import build_graph
from assets.execution.follow import JobFailed
from assets.execution.materialise import build_regression_check
from assets.execution.partitions import checkpoint_partitions
from assets.recipe import load_recipe
from assets.reporting.tables import figure
from pipelines.alerts import runs as module
from pipelines.alerts.message import Alert
from pipelines.alerts.runs import Runs
from tests.assets.evals.scored_checkpoints import score


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as opened:
        yield opened


class Bench:
    """A recipe of one asset and one check, and the sensor's memory of its runs."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        self.instance, self.folder, self.runs = instance, folder, Runs()
        self.passes, self.said = True, "all is well"
        self.error: Exception | None = None
        self.version = "aaaaaaaaaaaa"

    def make(self) -> dg.ExecuteInProcessResult:
        bench = self

        @dg.asset(key=["demo", "stage1"])
        def stage1() -> dg.MaterializeResult[Any]:
            if bench.error is not None:
                raise bench.error
            path = dg.PathMetadataValue(str(bench.folder / bench.version))
            return dg.MaterializeResult(metadata={"path": path, "steps": figure(1391)})

        @dg.asset_check(asset=stage1)
        def loss_fell() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(
                passed=bench.passes,
                severity=dg.AssetCheckSeverity.WARN,
                description=bench.said,
            )

        return dg.materialize([stage1, loss_fell], instance=self.instance, raise_on_error=False)

    def look(self) -> list[Alert]:
        return self.runs.look(self.instance, now=time.time())


@pytest.fixture
def bench(instance: dg.DagsterInstance, tmp_path: Path) -> Bench:
    return Bench(instance, tmp_path)


def test_a_failed_check_is_told_with_all_that_a_person_asks(bench: Bench) -> None:
    assert bench.look() == []
    bench.passes, bench.said = False, "loss 3.1 → 3.2 nats per token"
    bench.make()
    [told] = bench.look()
    assert (told.kind, told.recipe, told.asset) == ("check_failed", "demo", "stage1")
    assert (told.run, told.step) == (bench.version, 1391)
    assert "loss_fell" in told.seen
    assert "WARN" in told.seen
    assert "loss 3.1 → 3.2" in told.seen
    assert str(bench.folder / bench.version) in told.look
    assert bench.look() == []


def test_a_check_is_told_again_only_when_it_says_something_else(bench: Bench) -> None:
    bench.look()
    told: list[int] = []
    for passes, said, version in (
        (False, "bad", "a" * 12),
        (False, "bad", "a" * 12),  # the same result, reported again
        (False, "worse", "a" * 12),
        (False, "worse", "b" * 12),  # another result
        (True, "good", "b" * 12),
        (False, "worse", "b" * 12),
    ):
        bench.passes, bench.said, bench.version = passes, said, version
        bench.make()
        told.append(len(bench.look()))
    assert told == [1, 0, 1, 1, 0, 1]


def test_what_failed_before_the_first_look_is_not_told(bench: Bench) -> None:
    bench.passes = False
    bench.make()
    assert bench.look() == []
    assert bench.look() == []


def test_a_run_that_fails_is_told_unless_its_job_tells_it(bench: Bench) -> None:
    bench.look()
    bench.error = RuntimeError("no whole checkpoint stage1@step10")
    run = bench.make()
    [told] = bench.look()
    assert (told.kind, told.recipe, told.asset) == ("run_failed", "demo", "stage1")
    assert told.run == run.run_id
    assert "no whole checkpoint stage1@step10" in told.seen
    assert run.run_id in told.look
    bench.error = JobFailed("stage1: rank 1 was ended by signal 9")
    bench.make()
    assert bench.look() == []


def test_a_run_that_dagster_repeats_is_not_told(bench: Bench) -> None:
    bench.look()
    bench.error = RuntimeError("killed")
    run = bench.make()
    bench.instance.add_run_tags(run.run_id, {module.WILL_RETRY_TAG: "true"})
    assert bench.look() == []


def test_many_events_come_in_pages_and_memory_ends_with_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 1)
    bench.look()
    bench.passes = False
    for number in range(3):
        bench.said = f"bad {number}"
        bench.make()
    assert [told.seen.rpartition(" ")[2] for told in bench.look()] == ["0", "1", "2"]
    assert len(bench.runs.cursors) == 3
    bench.runs.last_look = time.time() + 2 * module.OVERLAP_SECONDS  # much later
    assert bench.look() == []
    assert bench.runs.cursors == {}


def test_an_old_run_that_is_tagged_tells_nothing_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERLAP_SECONDS", 0.0)
    bench.look()
    bench.error = RuntimeError("no such file")
    run = bench.make()
    assert len(bench.look()) == 1
    assert bench.look() == []
    assert bench.runs.cursors == {}
    bench.instance.add_run_tags(run.run_id, {"seen": "by me"})
    assert bench.look() == []


def test_a_checkpoint_that_became_worse_is_told_once(
    instance: dg.DagsterInstance, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(Path(__file__).parents[2] / "recipes"))
    graph, runs = build_graph(load_recipe("tiny")), Runs()
    for step, value in ((20, 0.5), (100, 0.3), (200, 0.3)):
        score(graph, toy_root, step, value)
    partitions = checkpoint_partitions("tiny")
    instance.add_dynamic_partitions("tiny_checkpoints", ["stage1@step100", "stage1@step200"])

    @dg.asset(key=["tiny", "checkpoint_downstream"], partitions_def=partitions)
    def checkpoint_downstream() -> None: ...

    check = build_regression_check(graph, "checkpoint_downstream")
    runs.look(instance, now=time.time())
    told: list[Alert] = []
    for key in ("stage1@step100", "stage1@step200"):
        dg.materialize([checkpoint_downstream, check], instance=instance, partition_key=key)
        told += runs.look(instance, now=time.time())
    [one] = told
    assert (one.kind, one.recipe, one.asset) == ("check_failed", "tiny", "checkpoint_downstream")
    assert "stage1@step100 is worse than stage1@step20: copa acc 0.5 → 0.3" in one.seen
