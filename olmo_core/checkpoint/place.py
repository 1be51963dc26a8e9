"""A folder to read from: on this machine, or elsewhere through the cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from olmo_core.config.url import is_remote
from olmo_core.errors import InputError
from olmo_core.remote.fetch import fetch
from olmo_core.remote.http import Missing
from olmo_core.remote.storage import list_folder, stat


@dataclass(frozen=True)
class Place:
    """A folder by its path or URL.

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
        """Whether its files have to be fetched."""
        return is_remote(self.location)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.location.rstrip("/").rpartition("/")[2]

    def has(self, name: str) -> bool:
        """Whether there is a file `name`; asks the server where there is one."""
        if not self.is_remote:
            return (Path(self.location) / name).is_file()
        try:
            stat((self / name).location)
        except Missing:
            return False
        return True

    def first_of(self, names: Sequence[str]) -> str | None:
        """The first of `names` that is there."""
        return next((name for name in names if self.has(name)), None)

    def file(self, name: str, sha256: str | None = None) -> Path:
        """A file of this folder as a local one, fetched and checked where it lies elsewhere.

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
        """The names in this folder, sorted; none where there is no such folder.

        Raises:
            InputError: it lies where nothing can be listed.
        """
        if self.is_remote:
            return list_folder(self.location)
        path = Path(self.location)
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
