"""Assign one run folder to all who want the same job, so that it is started once.

Who wants a job first has it in a folder of the own recipe's. Others, of whichever recipe, submit to
that folder too, where an engine finds the job at work. Of one that has failed they continue what it
has left.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assets.fingerprint import sha256_json
from assets.paths import open_version
from olmo_core.files import read_json, write_json
from olmo_core.run.folder import RunFolder, locked

FOLDER = ".assigned"  # below the root; no recipe's name begins with a dot


def assigned_folder(
    wanted: Mapping[str, Any],
    parent: Path,
    version: str,
    *,
    root: Path,
    finished: Callable[[], RunFolder | None],
) -> RunFolder:
    """Return the run folder of a job: the one that has been assigned, else a new one in `parent`.

    Args:
        wanted: What the job makes: asset, fingerprint, digests of what it reads. Who wants the
            same shares the folder.
        parent: The folder of the asking recipe's versions of the asset.
        version: The name of a new folder, but for the number of a repeat.
        root: Where the run folders lie.
        finished: Finds the result that the asking recipe would use.
    """
    record = root / FOLDER / f"{sha256_json(wanted)}.json"
    with locked(root / FOLDER / "lock"):
        if record.exists():
            folder = RunFolder(root / read_json(record)["path"])
            if folder.path.is_dir() and not folder.finished:
                return folder
            # Finished by another process between the caller's look and this one.
            if (found := finished()) is not None and found.path == folder.path:
                return found
        folder = open_version(parent, version)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(record, {**wanted, "path": str(folder.path.relative_to(root))})
        return folder
