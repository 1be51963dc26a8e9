"""What training can start from, whatever its format, and where that lies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from olmo_core.checkpoint.weights import read_model
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.remote.cache import fetch
from olmo_core.remote.storage import Missing, is_remote, list_folder, stat


@dataclass(frozen=True)
class Place:
    """A folder to read from, by its path or URL: files elsewhere come through the cache.

    Attributes:
        location: What the user wrote, or the address of a folder in it.
        cache: Where files that lie elsewhere are kept.
    """

    location: str
    cache: Path

    def __str__(self) -> str:
        return self.location

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.location.rstrip('/')}/{name}", self.cache)

    @property
    def is_remote(self) -> bool:
        """Return whether its files have to be fetched."""
        return is_remote(self.location)

    @property
    def name(self) -> str:
        """Return the last part of the address."""
        return self.location.rstrip("/").rpartition("/")[2]

    def has(self, name: str) -> bool:
        """Return whether there is a file `name`; asks the server where there is one."""
        if not self.is_remote:
            return (Path(self.location) / name).is_file()
        try:
            stat((self / name).location)
        except Missing:
            return False
        return True

    def first_of(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that is there."""
        return next((name for name in names if self.has(name)), None)

    def file(self, name: str, sha256: str | None = None) -> Path:
        """Return a file of this folder as a local one, fetched and checked where it lies elsewhere.

        Raises:
            InputError: it is not there, or what came is not `sha256`.
        """
        if self.is_remote:
            return fetch((self / name).location, self.cache, sha256)
        path = Path(self.location) / name
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return path

    def names(self) -> list[str]:
        """Return the names in this folder, sorted; none where there is no such folder.

        Raises:
            InputError: it lies where nothing can be listed.
        """
        if self.is_remote:
            return list_folder(self.location)
        path = Path(self.location)
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where the training stood that wrote a checkpoint.

    Attributes:
        step: Optimizer steps done.
        tokens: Tokens seen in them.
        order: How its data were ordered, as far as its format tells: keys of
            `Loader.order_spec()`.
        examples: Instances seen of its epoch, where its format tells; else `step` says it.
    """

    step: int
    tokens: int
    order: Mapping[str, Any]
    examples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint, verified as far as its format allows, that a run can start from.

    Attributes:
        location: Where it lies.
        identify: Returns what tells it from other checkpoints, wherever it lies.
        load: Copies its tensors into those of a state (`olmo_core.checkpoint.state`), one in memory
            at a time. Raises an InputError where one is missing, unexpected or of another shape;
            nothing has been copied then.
        position: Returns where its training stood; None: it holds weights alone.
    """

    location: str
    identify: Callable[[], dict[str, Any]]
    load: Callable[[dict[str, Tensor]], None]
    position: Callable[[], Position] | None = None


def require_same_model(
    where: str, theirs: ModelConfig | Mapping[str, Any], ours: ModelConfig
) -> None:
    """Compare what a checkpoint's model computes with what the run's would.

    Args:
        where: The file that describes theirs.
        theirs: The checkpoint's, or the configuration that has a section `model`.
        ours: The run's.

    Raises:
        InputError: they differ; names the keys.
    """
    if isinstance(theirs, Mapping):
        theirs = read_model(theirs, where)
    there, here = theirs.function, ours.function
    changed = [key for key in here if there[key] != here[key]]
    if changed:
        what = ", ".join(
            f"model.{key} is {there[key]!r} there, {here[key]!r} in this run's configuration"
            for key in changed
        )
        raise InputError(f"{where}: another model: {what}")
