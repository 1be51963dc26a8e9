"""Steps of the sweep's tests: checkpoints as a training leaves them, and who looks at them."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from assets.graph import Graph
from assets.launcher import Launch, Launcher
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.definitions import build_definitions
from pipelines.launchers.local import LocalLauncher
from pipelines.launchers.router import site_launcher
from pipelines.sensors import checkpoint_sensor
from pipelines.site.file import Site
from pipelines.sweep import Lacking

ALL = [
    ("checkpoint_downstream", "stage1@step20"),
    ("checkpoint_perplexity", "stage1@step20"),
    ("checkpoint_downstream", "stage1@step40"),
    ("checkpoint_perplexity", "stage1@step40"),
]


def save(
    graph: Graph, root: Path, run: str, step: int, *, whole: bool = True, kind: str = "permanent"
) -> None:
    folder = graph.folder(root, run) / graph.fingerprints[run].version / f"checkpoints/step{step}"
    folder.mkdir(parents=True)
    write_json(folder / "train.json", {"kind": kind})
    if whole:
        write_json(folder / "manifest.json", {"step": step})


def evaluate(
    graph: Graph,
    instance: dg.DagsterInstance,
    cursor: str | None = None,
    launcher: Launcher | None = None,
) -> dg.SensorResult | dg.SkipReason:
    """What the sensor says; without a launcher that of a site with the local engine alone."""
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={"launcher": launcher or site_launcher(Site())},
    )
    result = checkpoint_sensor(graph)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def cursor(result: dg.SensorResult | dg.SkipReason) -> str | None:
    """What the sensor remembers at its next look."""
    assert isinstance(result, dg.SensorResult)
    return result.cursor


def requested(result: dg.SensorResult | dg.SkipReason) -> list[str | None]:
    """The partitions of the runs that the sensor requests."""
    assert isinstance(result, dg.SensorResult)
    return [request.partition_key for request in result.run_requests or []]


def added(result: dg.SensorResult | dg.SkipReason) -> list[str]:
    """The partitions that the sensor adds."""
    assert isinstance(result, dg.SensorResult)
    [request, *_] = result.dynamic_partitions_requests or []
    return list(request.partition_keys)


def nightly(
    graph: Graph, instance: dg.DagsterInstance, launcher: Launcher | None = None
) -> list[str | None]:
    """The partitions that the schedule requests."""
    repository = build_definitions(["tiny"]).get_repository_def()
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.UTC),
        repository_def=repository,
        resources={"launcher": launcher or site_launcher(Site())},
    )
    data = repository.get_schedule_def("tiny_nightly_sweep").evaluate_tick(context)
    return [request.partition_key for request in data.run_requests or []]


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


def finish(folder: Path, **result: object) -> None:
    folder.mkdir(parents=True)
    report = {"numbers": {"copa acc": 0.5, "rows": 1}, "data": {}}
    write_json(
        folder / "result.json", {"schema_version": 1, "files": {}, "report": report, **result}
    )


def named(launches: Sequence[Launch]) -> list[tuple[str, str]]:
    return [(str(one.identity["asset"]), str(one.identity["partition"])) for one in launches]


def asked(found: Lacking) -> list[tuple[str, str]]:
    return [(work.node.name, str(work.partition)) for work in found.works]
