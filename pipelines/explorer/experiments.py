"""The experiments: every training run and every soup below the root and the shared ones, by its id.

An id is `<recipe>/<asset>/<version>`. It is looked for among what is there; no path is made of it.
"""

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assets.fingerprint import flatten
from assets.paths import shared_roots
from assets.recipe import NAME, find_recipes
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.explorer.errors import Missing
from pipelines.explorer.files import kept
from pipelines.explorer.lineages import lineage_of

MODEL = re.compile(r"stage1|stage2_ingredient\d+|soup")
VERSION = re.compile(r"[0-9a-f]{12}(\.\d+)?")
SILENT_SECONDS = 300  # after which a job that has said nothing is not taken to be at work


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run or soup, as its folder tells it."""

    recipe: str
    asset: str
    version: str
    folder: RunFolder
    state: str  # finished, running, silent, stopped, failed, submitted, damaged
    error: str | None  # of a job that failed, or why the folder cannot be read
    step: int | None
    steps: int | None  # in all
    tokens: int | None  # that the run itself has read
    loss: float | None  # of the last step
    parameters: int | None
    since: float  # Unix time at which it ended, or last said something
    config: Mapping[str, Any]  # flat: dotted keys that decide its result
    inputs: Mapping[str, Mapping[str, Any]]  # by asset, as it has recorded them
    data: Mapping[str, Any]  # what the finished job reported for programs
    shared: Path | None = None  # the root that it lies in, if that is a shared one

    @property
    def id(self) -> str:
        """Return `<recipe>/<asset>/<version>`."""
        return f"{self.recipe}/{self.asset}/{self.version}"

    @property
    def trained(self) -> bool:
        """Whether it has steps: a soup has none."""
        return self.asset != "soup"


def every_experiment(root: Path) -> list[Experiment]:
    """Return the experiments below a root and the shared ones, the latest first.

    Raises:
        ConfigError: a shared root is not there.
    """
    found: list[Experiment] = []
    for place in (root, *shared_roots(root)):
        for launch in place.glob("*/*/*/launch.json"):
            recipe, asset, version = launch.parts[-4:-1]
            if NAME.fullmatch(recipe) and MODEL.fullmatch(asset) and VERSION.fullmatch(version):
                each = _read(launch.parent)
                found.append(each if place == root else replace(each, shared=place))
    found.sort(key=lambda each: (-each.since, each.id))
    return found


def find_experiments(root: Path) -> dict[str, Experiment]:
    """Return all experiments by id, the latest first.

    A version that lies in several roots is one result: what is finished comes before what is not,
    then the own root before shared ones.

    Raises:
        ConfigError: a shared root is not there.
    """
    found: dict[str, Experiment] = {}
    for each in every_experiment(root):
        known = found.get(each.id)
        if known is None or _rank(each) < _rank(known):
            found[each.id] = each
    return found


def _rank(experiment: Experiment) -> tuple[bool, bool]:
    return experiment.state != "finished", experiment.shared is not None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An experiment, and why it is this one where no version was asked for."""

    experiment: Experiment
    why: str = ""


def experiment_of(root: Path, recipe: str, asset: str, version: str | None = None) -> Chosen:
    """Return an experiment; without a version what `olmo show` shows of the asset.

    That is the finished run of the recipe as it stands, which may be one that it reuses; else the
    newest finished one; and where none has finished, the latest.

    Raises:
        Missing: there is none.
        ConfigError: a shared root is not there.
    """
    found = find_experiments(root)
    own = [each for each in found.values() if (each.recipe, each.asset) == (recipe, asset)]
    if version is not None:
        own = [each for each in own if each.version == version]
        if own:
            return Chosen(experiment=own[0])
    elif MODEL.fullmatch(asset):
        current, why = _current(root, recipe, asset)
        if current is not None and (shown := found.get("/".join(current.parts[-3:]))) is not None:
            return Chosen(experiment=shown, why=why)
        finished = [each for each in own if each.state == "finished"]
        # Those of a shared root only where there is none in the own one.
        finished.sort(key=lambda each: each.shared is not None)
        if finished:
            return Chosen(experiment=finished[0], why=f"the newest finished run; {why}")
        if own:
            return Chosen(experiment=own[0], why=f"the latest run, none has finished; {why}")
    name = "/".join(part for part in (recipe, asset, version) if part)
    raise Missing(f"no training run and no soup is called {name[:200]}")


def _current(root: Path, recipe: str, asset: str) -> tuple[Path | None, str]:
    """Return the finished run of a recipe as it stands, and what it is; or None, and why."""
    if recipe not in find_recipes():
        return None, "its recipe is not here"
    try:
        with lineage_of(recipe) as lineage:
            graph = lineage.graph
            run = graph.finished(root, asset) if asset in graph.nodes else None
    except (ConfigError, ValueError) as error:
        return None, f"which is the recipe's as it stands is not known: {error}"
    if run is None:
        return None, "the recipe as it stands has no finished one"
    return run.path, "the run of the recipe as it stands, as in olmo show"


@kept("launch.json", "result.json", "status.json")
def _stored(path: Path) -> Experiment:
    """Return an experiment as its files say; whether a job is at work is not in them."""
    run = RunFolder(path)
    recipe, asset, version = path.parts[-3:]
    facts: dict[str, Any] = {"recipe": recipe, "asset": asset, "version": version, "folder": run}
    try:
        return Experiment(**facts, **_recorded(run))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, ValueError) else f"not as a run's are ({error!r})"
        damaged = {"state": "damaged", "error": said, "since": path.stat().st_mtime}
        return Experiment(**facts, **damaged, **_figures({}, {}, {}))


def _recorded(run: RunFolder) -> dict[str, Any]:
    """Return what the files of a run say.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: one of them is damaged.
    """
    launch = run.read(run.launch) or {}
    result = run.read_result() if run.finished else {}
    status = run.read_status() or {}
    state = "finished" if result else status.get("state") or "submitted"
    since = result.get("finished") or status.get("heartbeat") or run.launch.stat().st_mtime
    return {
        "state": "finished" if state == "done" else str(state),
        "error": status.get("error"),
        "since": float(since),
        **_figures(launch, result, status),
    }


def _figures(
    launch: Mapping[str, Any], result: Mapping[str, Any], status: Mapping[str, Any]
) -> dict[str, Any]:
    report: Mapping[str, Any] = result.get("report") or {}
    data: Mapping[str, Any] = report.get("data") or {}
    numbers: Mapping[str, Any] = report.get("numbers") or {}
    parts: Mapping[str, Any] = launch.get("parts") or {}
    step = data.get("step", status.get("step"))
    config = dict(flatten(parts.get("config") or {}))
    tokens = data.get("tokens")
    if tokens is None and step is not None:
        with contextlib.suppress(KeyError, TypeError):
            tokens = step * config["global_train_batch_size"] * config["model.max_sequence_length"]
    return {
        "step": step,
        "steps": status.get("total") if status.get("unit") == "steps" else None,
        "tokens": tokens,
        "loss": status.get("loss"),
        "parameters": numbers.get("parameters"),
        "config": config,
        "inputs": result.get("inputs") or launch.get("inputs") or {},
        "data": data,
    }


def _read(path: Path) -> Experiment:
    """Return an experiment, with whether it is at work at this moment."""
    stored = _stored(path)
    if stored.state != "running" or stored.folder.is_running():
        return stored
    # The lock of a job on another machine is not always seen here; its heartbeat is.
    silent = time.time() - stored.since > SILENT_SECONDS
    return replace(stored, state="silent" if silent else "running")


def varied(experiments: Sequence[Experiment]) -> dict[str, dict[str, Any]]:
    """Return by id the values of the keys in which experiments of one kind differ.

    A kind is the asset, all ingredients being one.
    """
    kinds: dict[str, list[Experiment]] = {}
    for each in experiments:
        kinds.setdefault(each.asset.rstrip("0123456789"), []).append(each)
    found: dict[str, dict[str, Any]] = {}
    for alike in kinds.values():
        keys = dict.fromkeys(key for each in alike for key in each.config)
        differing = [key for key in keys if len({str(each.config.get(key)) for each in alike}) > 1]
        for each in alike:
            found[each.id] = {key: each.config[key] for key in differing if key in each.config}
    return found
