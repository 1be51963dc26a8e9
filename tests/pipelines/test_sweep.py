"""The sweep's daemon side: new checkpoints become partitions and requests, each once."""

import datetime
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from assets.assemble import build_graph
from assets.evals.sweep import checkpoints, sweep_work
from assets.execution.materialise import build_sweep_check
from assets.execution.produce import launch_of
from assets.graph import Graph
from assets.launcher import EngineUnavailable, Launch, Refused
from assets.recipe import load_recipe
from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.errors import ConfigError
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder, locked
from pipelines.cli.launch import sweep_recipe
from pipelines.cli.show import print_assets
from pipelines.definitions import build_definitions
from pipelines.launchers.local import LocalLauncher
from pipelines.launchers.router import Router, site_launcher
from pipelines.sensors import checkpoint_sensor
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from pipelines.sweep import Lacking, lacking
from tests.pipelines.evaluations import MODULE, checkpoint, save_checkpoints, sweep_graph

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def graph(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    return build_graph(load_recipe("tiny"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as opened:
        yield opened


def save(
    graph: Graph, root: Path, run: str, step: int, *, whole: bool = True, kind: str = "permanent"
) -> None:
    folder = graph.folder(root, run) / graph.fingerprints[run].version / f"checkpoints/step{step}"
    folder.mkdir(parents=True)
    write_json(folder / "train.json", {"kind": kind})
    if whole:
        write_json(folder / "manifest.json", {"step": step})


def evaluate(
    graph: Graph, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"launcher": site_launcher(Site())}
    )
    result = checkpoint_sensor(graph)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


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
    assert [request.partition_key for request in result.run_requests or []] == ["stage1@step40"]
    again = evaluate(graph, instance, result.cursor)
    assert isinstance(again, dg.SkipReason)
    assert "damaged: stage1@step20" in str(again.skip_message)
    assert asked(lacking(graph, toy_root, found)) == []  # the tokenizer is not there
    assert nightly(graph, instance) == ["stage1@step40"]


def nightly(graph: Graph, instance: dg.DagsterInstance) -> list[str | None]:
    """The partitions that the schedule requests."""
    repository = build_definitions(["tiny"]).get_repository_def()
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.UTC),
        repository_def=repository,
        resources={"launcher": site_launcher(Site())},
    )
    data = repository.get_schedule_def("tiny_nightly_sweep").evaluate_tick(context)
    return [request.partition_key for request in data.run_requests or []]


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


@dataclass(kw_only=True)
class Arrays(LocalLauncher):
    """An engine with a queue and arrays; what it is given is kept, and nothing is started."""

    given: list[list[Launch]] = field(default_factory=list[list[Launch]])

    def queues(self, launch: Launch) -> bool:
        return True

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        self.given.append(list(launches))
        return list(launches)

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        raise AssertionError(f"nothing is cancelled here: {folders}")


@pytest.fixture
def arrays() -> Arrays:
    return Arrays()


@pytest.fixture
def launcher(arrays: Arrays) -> Router:
    """A site that evaluates on an engine with arrays."""
    site = Site(slurm=SlurmSite(), work={"evals": ResourceSpec(engine="slurm")})
    return Router(site=site, engines={"local": LocalLauncher(site=site), "slurm": arrays})


def finish(folder: Path, **result: object) -> None:
    folder.mkdir(parents=True)
    report = {"numbers": {"copa acc": 0.5, "rows": 1}, "data": {}}
    write_json(
        folder / "result.json", {"schema_version": 1, "files": {}, "report": report, **result}
    )


@pytest.fixture
def evaluable(graph: Graph, toy_root: Path) -> Graph:
    """The graph, with two checkpoints and all else that their evaluation needs."""
    for step in (20, 40):
        save(graph, toy_root, "stage1", step)
    for name in ("tokenizer", "held_out"):
        finish(
            graph.folder(toy_root, name) / graph.fingerprints[name].version,
            fingerprint=graph.fingerprints[name].value,
            digest="x",
            inputs={},
        )
    return graph


def named(launches: Sequence[Launch]) -> list[tuple[str, str]]:
    return [(str(one.identity["asset"]), str(one.identity["partition"])) for one in launches]


def asked(found: Lacking) -> list[tuple[str, str]]:
    return [(work.node.name, str(work.partition)) for work in found.works]


ALL = [
    ("checkpoint_downstream", "stage1@step20"),
    ("checkpoint_perplexity", "stage1@step20"),
    ("checkpoint_downstream", "stage1@step40"),
    ("checkpoint_perplexity", "stage1@step40"),
]


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


def test_the_local_engine_makes_them_one_after_another_and_goes_on_after_a_failure(
    toy_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("assets.evals.sweep.MODULE", MODULE)
    toy = sweep_graph("toy")
    monkeypatch.setattr("pipelines.cli.launch.load_recipe", lambda name: name)
    monkeypatch.setattr("pipelines.cli.launch.build_graph", lambda recipe: toy)
    keys = ["stage1@step1", "stage1@step2", "stage1@step3"]
    save_checkpoints(toy, toy_root, keys)
    value = checkpoint(toy, toy_root, keys[1]) / "value"
    value.unlink()
    assert sweep_recipe("toy", dry_run=True) == 0
    assert "would be made here, one after another: 6" in capsys.readouterr().out
    assert not list(toy_root.glob("toy/checkpoint_*"))
    assert sweep_recipe("toy", dry_run=False) == 1
    shown = capsys.readouterr()
    assert "[1/6] checkpoint_downstream stage1@step1: " in shown.out
    assert "[6/6] checkpoint_perplexity stage1@step3: " in shown.out
    assert "olmo: [3/6] checkpoint_downstream stage1@step2: " in shown.err
    assert str(value) in shown.err
    value.write_text("2")
    assert sweep_recipe("toy", dry_run=False) == 0
    assert "4 evaluations finished before" in capsys.readouterr().out
    starts = [path.read_text() for path in toy_root.glob("toy/checkpoint_*/*/starts")]
    assert sorted(starts) == ["x"] * 4 + ["xx"] * 2
    times = sorted(
        (result["started"], result["finished"])
        for path in toy_root.glob("toy/checkpoint_*/*/*/result.json")
        if (result := json.loads(path.read_text()))
    )
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))


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


WHY = "boolq: document 7: its choice has 300 tokens"


def test_what_could_not_be_scored_is_shown(
    evaluable: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = sweep_work(evaluable, *ALL[0], toy_root)
    report = {"numbers": {}, "data": {"not_scored": [{"why": WHY}]}}
    finish(work.parent / work.fingerprint.version, report=report)
    assert sweep_recipe("tiny", dry_run=True) == 1
    assert f"checkpoint_downstream stage1@step20: not scored: {WHY}" in capsys.readouterr().err
    made = build_sweep_check(evaluable, "checkpoint_downstream")
    verdict = made()
    assert isinstance(verdict, dg.AssetCheckResult)
    assert (verdict.passed, verdict.description) == (
        False,
        f"not scored: stage1@step20: {WHY}",
    )


def test_show_knows_the_sweep(
    evaluable: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = sweep_work(evaluable, *ALL[0], toy_root)
    finish(done.parent / done.fingerprint.version, fingerprint=done.fingerprint.value)
    other = sweep_work(evaluable, *ALL[2], toy_root)
    finish(other.parent / "abcdef012345")
    print_assets("tiny", "checkpoint_downstream", as_json=True)
    first, second = json.loads(capsys.readouterr().out)
    [run] = toy_root.glob("tiny/stage1/*")
    assert (first["partition"], first["run"], first["state"]) == (
        "stage1@step20",
        run.name,
        "current",
    )
    assert first["metadata"]["copa acc"] == 0.5
    assert second["state"] == "stale"
    print_assets("tiny", "checkpoint_downstream", as_json=False)
    shown = capsys.readouterr().out
    assert "copa acc" in shown
    assert "rows" not in shown
    assert len([line for line in shown.splitlines() if line.strip().startswith("stage1@")]) == 2
    with pytest.raises(ConfigError, match="no asset 'checkpoint_downstrem'"):
        print_assets("tiny", "checkpoint_downstrem", as_json=False)
