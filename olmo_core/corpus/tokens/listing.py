"""`published.json` in the run folder of `tokens`: where each published token file is from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.files import read_json, write_json

NAME = "published.json"
SCHEMA_VERSION = 1


def write_list(folder: Path, files: Sequence[Mapping[str, Any]]) -> None:
    """Write what is known of each file: `file` in the folder, `from`, `listed` times, `sha256`."""
    write_json(folder / NAME, {"schema_version": SCHEMA_VERSION, "files": files})


def listed_times(folder: Path) -> dict[str, int]:
    """Return how often each published token file of a run folder is listed, by its path there."""
    path = folder / NAME
    if not path.exists():
        return {}
    return {file["file"]: file["listed"] for file in read_json(path)["files"]}
