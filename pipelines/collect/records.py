"""What each run of a root says of itself and of others: read from its records, nothing else.

What a run depends on is wider than what it says that it read: whatever run of this root any text of
its configuration names, below whatever root, since roots are moved and mounted elsewhere.
"""

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from assets.execution.replay import FOLDER as REPLAYS
from assets.recipe import NAME, TAKEN
from olmo_core.config.load import load
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder, is_locked

VERSION = re.compile(r"[0-9a-f]{12}(?:\.[1-9][0-9]*)?")
LOCKS = ("job.lock", "submit.lock", "supervise.lock")
# What tells when a run was last at work.
TOUCHED = ("claim.json", "launch.json", "status.json", "metrics.jsonl", "attempts.jsonl")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder of a root, and what its records say."""

    name: str  # <recipe>/<asset>[/<partition>]/<version>
    folder: RunFolder
    asset: str
    made_by: str | None = None  # the recipe that has submitted it last
    host: str | None = None  # from where
    fingerprint: str | None = None
    digest: str | None = None
    finished: float | None = None  # Unix time
    touched: float = 0.0  # Unix time: when its job was last seen at work
    has_checkpoint: bool = False
    mentions: frozenset[str] = frozenset()  # names of runs, whether or not they are there
    fingerprints_read: frozenset[str] = frozenset()  # of inputs that are not where they were
    damage: str = ""  # what of its records cannot be read, and why
    mute: bool = False  # nothing can: what it depends on is not known
    linked: bool = False  # reached by a symbolic link

    @property
    def line(self) -> str:
        """Return whose version it is: `<recipe>/<asset>[/<partition>]`."""
        return self.name.rpartition("/")[0]

    @property
    def recipe(self) -> str:
        """Return the recipe in whose folder it lies."""
        return self.name.partition("/")[0]

    @property
    def version(self) -> str:
        """Return the name of its folder."""
        return self.folder.path.name

    @property
    def locked(self) -> bool:
        """Whether some process of this machine is at work on it, or has just begun."""
        return any(is_locked(self.folder.path / name) for name in LOCKS)


@dataclass(frozen=True, kw_only=True)
class Records:
    """All runs below a root, by name; `replays` only read others, and are no results."""

    root: Path
    runs: Mapping[str, Run]
    replays: Sequence[Run] = field(default_factory=tuple[Run, ...])

    @cached_property
    def by_fingerprint(self) -> Mapping[str, list[Run]]:
        """The runs of each fingerprint."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs.values():
            if run.fingerprint:
                found[run.fingerprint].append(run)
        return found

    @cached_property
    def lines(self) -> Mapping[str, list[Run]]:
        """The versions of each asset, or partition of one, the newest finished first."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs.values(), key=lambda run: -(run.finished or 0.0)):
            found[run.line].append(run)
        return found

    @cached_property
    def readers(self) -> Mapping[str, list[str]]:
        """By each run's name, those that depend on it at first hand."""
        found: dict[str, list[str]] = defaultdict(list)
        for run in self.runs.values():
            for name in self.read_by(run):
                found[name].append(run.name)
        return found

    def read_by(self, run: Run) -> list[str]:
        """Return the names of the runs that a run depends on at first hand."""
        found = {name for name in run.mentions if name in self.runs}
        for fingerprint in run.fingerprints_read:
            found.update(other.name for other in self.by_fingerprint.get(fingerprint, ()))
        return sorted(found - {run.name})

    def closure(self, names: Iterable[str]) -> set[str]:
        """Return these runs and all that they depend on."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.read_by(self.runs[name]))
        return found

    def dependents(self, names: Iterable[str]) -> set[str]:
        """Return the runs that depend on any of these, at whatever remove; these not among them."""
        given = set(names)
        found: set[str] = set()
        waiting = list(given)
        while waiting:
            more = set(self.readers.get(waiting.pop(), ())) - found
            found |= more
            waiting.extend(more)
        return found - given


def read_records(root: Path) -> Records:
    """Return what the runs of a root say; what cannot be read is said of each."""
    runs = {run.name: run for run in (_read(root, *found) for found in _folders(root))}
    replays = [
        _read(root, path.parent, False, "")
        for path in (root / REPLAYS).glob("*/*/*/*/*/launch.json")
    ]
    return Records(root=root, runs=runs, replays=replays)


def named_runs(text: str) -> Iterator[str]:
    """Yield the names of runs that a path in a text could mean."""
    parts = text.split("/")
    for number, part in enumerate(parts):
        if VERSION.fullmatch(part):
            for length in (3, 4):
                if number + 1 >= length:
                    yield "/".join(parts[number + 1 - length : number + 1])


def _folders(root: Path) -> Iterator[tuple[Path, bool, str]]:
    """Yield each run folder, whether a link leads to it, and its asset."""
    for recipe in _children(root):
        if not NAME.fullmatch(recipe.name) or recipe.name in TAKEN:
            continue
        for asset in _children(recipe):
            for child in _children(asset):
                versions = [child] if VERSION.fullmatch(child.name) else _children(child)
                for path in versions:
                    if VERSION.fullmatch(path.name):
                        above = (recipe, asset, child, path)
                        yield path, any(each.is_symlink() for each in above), asset.name


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(root: Path, path: Path, linked: bool, asset: str) -> Run:
    """Return what a run says; of a file that cannot be read, what its letters name."""
    folder = RunFolder(path)
    texts: list[str] = []
    damage: list[str] = []

    def asked(what: Path, question: Callable[[], Any]) -> Any:
        try:
            return question() if what.exists() else None
        except (OSError, ValueError, ConfigError) as error:
            said = " ".join(f"{error}".split())
            damage.append(said if str(what) in said else f"{what}: {said}")
            with contextlib.suppress(OSError):
                texts.extend(re.split(r"[\"'\s,]", what.read_text(errors="replace")))
        return None

    launch = asked(folder.launch, lambda: _mapping(folder.read(folder.launch), folder.launch))
    result = asked(folder.result, lambda: _mapping(_result(folder), folder.result))
    config = asked(folder.config, lambda: load(folder.config))
    last = asked(folder.path / "checkpoints", folder.last_checkpoint)
    readable = any(each is not None for each in (launch, result, config))
    launch, result = launch or {}, result or {}
    elsewhere: set[str] = set()
    for entry in [*launch.get("inputs", {}).values(), *result.get("inputs", {}).values()]:
        texts.append(entry["path"])
        if not (root / entry["path"]).exists():
            elsewhere.add(entry["fingerprint"])
    return Run(
        name=str(path.relative_to(root)),
        folder=folder,
        asset=asset,
        linked=linked,
        touched=_touched(folder),
        has_checkpoint=last is not None,
        made_by=launch.get("recipe"),
        host=launch.get("host"),
        fingerprint=result.get("fingerprint") or launch.get("fingerprint"),
        digest=result.get("digest"),
        finished=result.get("finished"),
        mentions=frozenset(name for text in (*texts, *_texts(config)) for name in named_runs(text)),
        fingerprints_read=frozenset(elsewhere),
        damage="; ".join(damage),
        mute=bool(damage) and not readable,
    )


def _result(folder: RunFolder) -> dict[str, Any]:
    if not folder.finished:  # torn: the job is to be run again
        raise ValueError(f"{folder.result}: is not whole")
    return folder.read_result()


def _mapping(record: dict[str, Any] | None, path: Path) -> dict[str, Any] | None:
    """Return a record of a run, whose inputs and times are as they should be.

    Raises:
        ValueError: they are not.
    """
    if record is None:
        return None
    inputs = record.get("inputs", {})
    if inputs is None:  # started by hand
        return {**record, "inputs": {}}
    entries: list[Any] = [*inputs.values()] if isinstance(inputs, dict) else [None]
    for entry in entries:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), str) for key in ("path", "fingerprint")
        ):
            raise ValueError(f"{path}: inputs: expected a path and a fingerprint of each")
    if not isinstance(record.get("finished", 0.0), (int, float)):
        raise ValueError(f"{path}: finished: found {record['finished']!r}; expected Unix time")
    return record


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _touched(folder: RunFolder) -> float:
    """Return when the run's job was last seen at work."""
    found: list[float] = []
    for name in (".", "result.json", *TOUCHED):
        with contextlib.suppress(FileNotFoundError):
            found.append((folder.path / name).stat().st_mtime)
    return max(found, default=time.time())  # gone at this moment
