"""What a run was made from, from run folders alone: its inputs, theirs, and so on, each once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from assets.reuse import OWN
from olmo_core.errors import InputError
from olmo_core.run.folder import RunFolder

Record = Mapping[str, Any]  # of launch.json, or what it would hold


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a run has read, as it has recorded it."""

    name: str  # the asset
    folder: Path  # where its run lies, or lay
    relative: str  # recipe, asset, version
    fingerprint: str
    digest: str  # of what was read


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """One run with what it says of itself; `result` is None while it has not finished."""

    run: RunFolder
    launch: Record
    result: Record | None
    inputs: tuple[Input, ...]

    @property
    def record(self) -> Record:
        """Return what it was submitted as; where that is gone, what its result has kept of it."""
        return self.launch or self.result or {}

    @property
    def asset(self) -> str:
        """Return the asset that it made."""
        return str(self.record.get("asset") or self.run.path.parent.name)

    @property
    def relative(self) -> str:
        """Return recipe, asset, partition and version, as the folder is found below its root."""
        return str(self.run.path.relative_to(root_above(self.run, self.record)))

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the facts that its job reported; none while it has not finished."""
        return {} if self.result is None else self.result["report"]["data"]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return what its fingerprint hashes; nothing where launch.json is gone."""
        return self.launch.get("parts") or {}


def read_ancestor(run: RunFolder) -> Ancestor | None:
    """Return what a run says of itself; None where there is no such run.

    Raises:
        InputError: one of its files is malformed or of another schema version.
    """
    try:
        launch = run.read(run.launch) or {}
        result = run.read_result() if run.finished else None
    except ValueError as error:
        raise InputError(str(error)) from None
    record = launch or result
    if record is None:
        return None
    inputs: Mapping[str, Mapping[str, Any]] = record.get("inputs") or {}
    made_from = [
        Input(
            name=name,
            folder=input_folder(run, record, entry),
            relative=entry["path"],
            fingerprint=entry["fingerprint"],
            digest=entry["digest"],
        )
        for name, entry in inputs.items()
    ]
    return Ancestor(run=run, launch=launch, result=result, inputs=tuple(made_from))


def ancestors(
    run: RunFolder, read: Callable[[RunFolder], Ancestor | None] = read_ancestor
) -> list[Ancestor]:
    """Return a run and all that it is made from, as far as it is there, each run once.

    What others are made from comes first, and the run itself last.

    Args:
        run: The run.
        read: Returns what a run says of itself, or None where nothing behind it is looked at.

    Raises:
        InputError: the run is not there, or a file is malformed.
    """
    found: dict[Path, Ancestor | None] = {}
    ordered: list[Ancestor] = []
    waiting = [(run.path, False)]  # depth first, without recursion: a chain may be long
    while waiting:
        path, inputs_done = waiting.pop()
        if inputs_done:
            ancestor = found[path]
            assert ancestor is not None
            ordered.append(ancestor)
        elif path not in found:
            found[path] = ancestor = read(RunFolder(path))
            if ancestor is not None:
                waiting.append((path, True))
                waiting += [(each.folder, False) for each in reversed(ancestor.inputs)]
    if not ordered:
        raise InputError(f"{run.path}: no run: neither launch.json nor result.json is there")
    return ordered


def launch_record(run: RunFolder) -> Record:
    """Return launch.json; of a run that was started by hand its configuration alone."""
    launch = run.read(run.launch) or {}
    if "parts" in launch:
        return launch
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    return {**launch, "parts": {"config": config}}


def root_above(run: RunFolder, record: Record) -> Path:
    """Return the root that a run lies in, be it one of ours or not."""
    depth = 2 if record.get("partition") is None else 3  # recipe, asset, partition
    return run.path.parents[depth]


def input_folder(run: RunFolder, record: Record, entry: Mapping[str, Any]) -> Path:
    """Return where an input of a run lies; also of a run in a root that is no root of ours."""
    root = root_above(run, record) if entry["root"] == OWN else Path(entry["root"])
    return root / entry["path"]
