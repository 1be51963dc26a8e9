"""The places of a documents index in small blocks: a cache of a root, by the index's digest."""

from collections.abc import Callable
from pathlib import Path

from assets.paths import shared_roots
from olmo_core import environment
from olmo_core.lineage.place_blocks import MARKER, BuiltBlocks, build_blocks, require_blocks_of
from olmo_core.run.folder import RunFolder

BLOCKS = Path("cache") / "places"  # below a root: blocks by the digest of their documents index


def blocks_folder(root: Path, documents: Path) -> Path:
    """Return the folder of the blocks of a run of `documents` in a root."""
    return root / BLOCKS / RunFolder(documents).read_result()["digest"]


def find_blocks(root: Path, documents: Path) -> Path | None:
    """Return the finished blocks of a run of `documents`, here or in a shared root; None: none are.

    Raises:
        InputError: they are of another index, or of another version.
    """
    for place in (root, *shared_roots(root)):
        folder = blocks_folder(place, documents)
        if (folder / MARKER).is_file():
            require_blocks_of(folder, folder.name)
            return folder
    return None


def index_blocks(
    root: Path, documents: Path, progress: Callable[[int, int], None]
) -> tuple[Path, BuiltBlocks]:
    """Write the blocks of a run of `documents` in a root; return their folder, and what was done.

    Raises:
        InputError: the index is damaged.
    """
    folder = blocks_folder(root, documents)
    built = build_blocks(
        documents,
        folder,
        digest=folder.name,
        processes=environment.processes(),
        progress=progress,
    )
    return folder, built
