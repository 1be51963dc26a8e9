"""What folders hold on the disk, and what is freed when they go.

Blocks count, not lengths: a sparse file takes less than it is long. A file with several names is
counted once, and is freed only if all of its names go.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are


@dataclass(kw_only=True)
class Sizes:
    """Counts what folders would free together; each file is counted where it was met first."""

    _files: dict[tuple[int, int], tuple[str, int, int, int]] = field(
        default_factory=dict[tuple[int, int], tuple[str, int, int, int]]
    )

    def add(self, name: str, folder: Path) -> None:
        """Take a folder, or a file, among those that go."""
        for entry in _entries(folder):
            key = (entry.st_dev, entry.st_ino)
            first, seen, links, size = self._files.get(
                key, (name, 0, entry.st_nlink, entry.st_blocks * BLOCK_BYTES)
            )
            self._files[key] = (first, seen + 1, links, size)

    @property
    def freed(self) -> Mapping[str, int]:
        """Return what each of them frees, in bytes, if all of them go."""
        found: dict[str, int] = {}
        for name, seen, links, size in self._files.values():
            found[name] = found.get(name, 0) + (size if seen >= links else 0)
        return found


def _entries(path: Path) -> Iterator[os.stat_result]:
    """Yield what is known of a file, or of each file in a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path.lstat()
        return
    for parent, folders, files in os.walk(path):
        for name in (*files, *(each for each in folders if Path(parent, each).is_symlink())):
            try:
                yield os.lstat(os.path.join(parent, name))
            except FileNotFoundError:
                continue  # deleted meanwhile
