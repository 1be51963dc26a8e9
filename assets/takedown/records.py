"""All run folders below the roots of results, whichever recipe made them, and what each has read.

They are read from the folders alone: the recipe that made one may be gone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.paths import shared_roots
from assets.reuse import located, root_of
from olmo_core.run.folder import RunFolder

CHECKPOINTS = "checkpoints"  # folder of a run of a training
_DEPTHS = ("*/*/*", "*/*/*/*")  # recipe/asset/version, recipe/asset/partition/version


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run folder, and where its inputs lie."""

    run: RunFolder
    root: Path
    recipe: str
    asset: str
    partition: str | None
    module: str  # that made it
    config: Mapping[str, Any]  # its section, as it decided the result
    content: Mapping[str, Any]  # its result; of an unfinished one its launch
    inputs: Mapping[str, Path]
    steps: Mapping[str, int]  # of inputs that are checkpoints

    @property
    def name(self) -> str:
        """Return recipe, asset, partition and version, as `demo/raw/e4fe5e99aa32`."""
        return str(self.run.path.relative_to(self.root))

    @property
    def stage(self) -> str:
        """Return the life stage whose job made it, as the core's folders are named."""
        return self.module.split(".")[1] if "." in self.module else ""

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the facts that its job has reported; none of an unfinished one."""
        report: Mapping[str, Any] = self.content.get("report", {})
        return report.get("data", {})


def read_records(root: Path) -> dict[Path, Record]:
    """Return every run folder below a root and the shared ones, by its path.

    Inputs come before what is made from them.
    """
    found: dict[Path, Record] = {}
    for place in (root, *shared_roots(root)):
        for record in _below(place, root):
            found[record.run.path] = record
    return _in_order(found)


def _below(place: Path, root: Path) -> Iterator[Record]:
    for depth in _DEPTHS:
        for path in sorted(place.glob(depth)):
            run = RunFolder(path)
            if run.launch.is_file() or run.result.is_file():  # else no job has been submitted there
                yield record_of(run, root)


def record_of(run: RunFolder, root: Path) -> Record:
    """Return what a run folder of a root, or of a shared one, says of itself."""
    place = root_of(run.path, root)
    launch = run.read(run.launch) or {}
    content = run.read_result() if run.finished else launch
    recipe, asset, *between, _ = run.path.relative_to(place).parts
    parts: Mapping[str, Any] = launch.get("parts") or {}
    return Record(
        run=run,
        root=place,
        recipe=recipe,
        asset=asset,
        partition=between[0] if between else None,
        module=parts.get("module", ""),
        config=parts.get("config", {}),
        content=content,
        inputs={name: _run_of(path) for name, path in _inputs(content, run, root).items()},
        steps={
            name: int(path.name.removeprefix("step"))
            for name, path in _inputs(content, run, root).items()
            if path.parent.name == CHECKPOINTS
        },
    )


def _inputs(content: Mapping[str, Any], run: RunFolder, root: Path) -> dict[str, Path]:
    recorded: Mapping[str, Mapping[str, Any]] = content.get("inputs") or {}
    # An input of a job that was started by hand may say nothing of its place.
    return {name: located(each, run, root) for name, each in recorded.items() if "root" in each}


def _run_of(path: Path) -> Path:
    """Return the run folder of an input, which may be a checkpoint in one."""
    return path.parents[1] if path.parent.name == CHECKPOINTS else path


def _in_order(records: Mapping[Path, Record]) -> dict[Path, Record]:
    ordered: dict[Path, Record] = {}

    def add(path: Path) -> None:
        if path in records and path not in ordered:
            for entry in records[path].inputs.values():
                add(entry)
            ordered[path] = records[path]

    for path in records:
        add(path)
    return ordered


def ancestors(records: Mapping[Path, Record], record: Record, asset: str) -> Iterator[Record]:
    """Yield the runs of an asset that a run is made from, by whatever way, itself included."""
    waiting, seen = [record.run.path], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen or path not in records:
            continue
        seen.add(path)
        if records[path].asset == asset:
            yield records[path]
        waiting.extend(records[path].inputs.values())


def is_shared(record: Record, root: Path) -> bool:
    """Return whether a run lies in a shared root, which is others' to change."""
    return root_of(record.run.path, root) != root
