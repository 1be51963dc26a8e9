"""The check `replayed` of each training: steps from its last checkpoint, made again and compared.

It costs what the steps cost, so it runs only where it is asked for by itself: from the asset's page
in the UI, or by the job `<recipe>_replay`. A run that makes the training passes over it, and says
again what the last replay of that very run has found.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from assets.execution.follow import JobFailed
from assets.execution.replay import FOLDER, RECORD, record_of, replay, replay_folder
from assets.execution.step import AssetStep
from assets.graph import Graph
from assets.launcher import JobState, Launcher, Refused
from assets.node import Node
from assets.paths import root
from olmo_core.errors import InputError
from olmo_core.files import read_json
from olmo_core.lineage.compare_replay import Difference
from olmo_core.lineage.replay import last_stretch
from olmo_core.run.code import TRAINING
from olmo_core.run.folder import RunFolder

NAME = "replayed"
LINE_EVERY_SECONDS = 30.0
DESCRIPTION = (
    "Steps from the last checkpoint, made again, give what they gave: bit by bit on the same "
    "place, elsewhere within the tolerance. Runs only where it is asked for by itself."
)


class ReplayOptions(dg.Config):
    """What a person may say when asking for the check."""

    steps: int = 20  # from the last checkpoint that has any after it


def replay_check_key(node: Node) -> dg.AssetCheckKey:
    """Return the key of a training's check."""
    return dg.AssetCheckKey(dg.AssetKey(node.key), NAME)


def trainings(graph: Graph) -> list[Node]:
    """Return the assets that have the check, in the graph's order."""
    return [node for node in graph.nodes.values() if node.module == TRAINING]


def build_replay_check(graph: Graph, node: Node) -> dg.AssetChecksDefinition:
    """Return the check of a training: a step of its own, in the pool of trainings."""
    key = dg.AssetKey(node.key)

    @dg.multi_asset_check(
        name=f"{key.to_python_identifier()}_{NAME}",
        specs=[dg.AssetCheckSpec(NAME, asset=key, description=DESCRIPTION)],
        can_subset=True,  # so that it may say nothing
        pool="gpu",
    )
    def evaluate(
        context: dg.AssetCheckExecutionContext,
        config: ReplayOptions,
        launcher: dg.ResourceParam[Launcher],
    ) -> Iterator[dg.AssetCheckResult]:
        run = graph.finished(root(), node.name)
        if key in context.job_def.asset_layer.executable_asset_keys:
            if run is not None and (known := _last_record(node, run)) is not None:
                yield _result(known)
        elif run is None:
            yield _not_replayed(f"{node.name} has not been made as recipe {node.recipe} stands now")
        else:
            yield _replayed(graph, node, run, config.steps, launcher, context)

    return evaluate


def _replayed(
    graph: Graph,
    node: Node,
    run: RunFolder,
    steps: int,
    launcher: Launcher,
    context: dg.AssetCheckExecutionContext,
) -> dg.AssetCheckResult:
    """Replay, and return what was found. A run that is cancelled in Dagster ends the job."""
    log = ReplayLog(context)
    step = AssetStep(graph=graph, context=context, launcher=launcher, observer=log, force=False)
    try:
        stretch = last_stretch(run, steps)
        folder = replay_folder(root(), node.recipe, node.name, stretch)
        with step.at_work(node.name, [], [RunFolder(folder)]):
            found = replay(
                node.recipe, node.name, stretch, root(), launcher, log, step.end_if_cancelled
            )
    except (InputError, JobFailed, Refused) as error:
        return _not_replayed(str(error))
    return _result({**record_of(stretch, found), "folder": str(folder)})


class ReplayLog:
    """Tell a run's log how far a replay is; the asset's observations are those of its own run."""

    def __init__(self, context: dg.AssetCheckExecutionContext) -> None:
        self._log = context.log
        self._next_line = 0.0

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Log where the work lies."""
        self._log.info(f"{asset}: {how}; {folder.path}")

    def state(self, asset: str, state: JobState) -> None:
        """Log what a job waits for."""
        if state.queued:
            self._log.info(f"{asset}: {state.description}")

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Log a line now and then."""
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            self._log.info(f"{asset}: {status['done']} of {status['total']} {status['unit']}")

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Log what it took."""
        self._log.info(f"{asset}: replayed in {result['work_seconds']:.1f} s")


def _last_record(node: Node, run: RunFolder) -> dict[str, Any] | None:
    """Return what the last replay of a run has recorded; None where there was none."""
    folder = root() / FOLDER / node.recipe / node.name / run.path.name
    records = [(read_json(path), path) for path in folder.glob(f"*/*/{RECORD}")]
    if not records:
        return None
    record, path = max(records, key=lambda pair: pair[0]["when"])
    return {**record, "folder": str(path.parent)}


def _result(record: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return a replay's record as Dagster shows it: a warning if it is not as it was."""
    differences: list[Mapping[str, Any]] = record["differences"]
    good = record["bitwise"] or (record["elsewhere"] and record["within_tolerance"])
    metadata: dict[str, Any] = {
        "from_checkpoint": record["start"],
        "last_step": record["end"],
        "steps_with_figures": record["steps"],
        "bitwise": record["bitwise"],
        "tolerance": record["tolerance"],
        "differences": len(differences),
        "replayed_at": record["when"],
        "run": dg.PathMetadataValue(record["run"]),
        "replay": dg.PathMetadataValue(record["folder"]),
    }
    if differences:
        metadata["first_difference"] = str(Difference(**differences[0]))
    if record["elsewhere"]:
        metadata["elsewhere"] = "; ".join(record["elsewhere"])
    return dg.AssetCheckResult(
        check_name=NAME,
        passed=bool(good),
        severity=dg.AssetCheckSeverity.WARN,
        description=record["said"],
        metadata=metadata,
    )


def _not_replayed(why: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=NAME, passed=False, severity=dg.AssetCheckSeverity.WARN, description=why
    )
