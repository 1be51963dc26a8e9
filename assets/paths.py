"""Where run folders lie: `<root>/<recipe>/<asset>[/<partition>]/<version>/`."""

import os
import re
from pathlib import Path

from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder

CHECKOUT = Path(__file__).resolve().parents[1]


def root() -> Path:
    """Return the folder of all results: `OLMO_ROOT`, else `runs/` in the checkout."""
    return (environment.root() or CHECKOUT / "runs").absolute()


def dagster_home() -> Path:
    """Return the folder of Dagster's instance: `DAGSTER_HOME`, else `dagster` in the root."""
    return Path(os.environ.get("DAGSTER_HOME") or root() / "dagster").absolute()


def shared_roots(root: Path) -> list[Path]:
    """Return the read-only roots whose results are used beside those of `root`.

    Raises:
        ConfigError: one of them is not there, or is not apart from `root`.
    """
    found = [path.expanduser().absolute() for path in environment.shared_roots()]
    for path in found:
        if not path.is_dir():
            raise ConfigError(f"{environment.SHARED_ROOTS}: {path}: no such folder")
        if path.is_relative_to(root) or root.is_relative_to(path):
            raise ConfigError(
                f"{environment.SHARED_ROOTS}: {path}: not apart from the root of results, {root}, "
                "which is written to"
            )
    return found


def versions(folder: Path, version: str) -> list[RunFolder]:
    """Return the run folders of a version and its forced repeats (`.2`, `.3`, …), oldest first."""
    if not folder.is_dir():
        return []
    pattern = re.compile(rf"{version}(?:\.(\d+))?")
    matches = {path: pattern.fullmatch(path.name) for path in folder.iterdir()}
    found = {int(m[1] or 1): path for path, m in matches.items() if m and path.is_dir()}
    return [RunFolder(found[number]) for number in sorted(found)]


def open_version(folder: Path, version: str) -> RunFolder:
    """Return the run folder to work in: the newest if it is unfinished, else a new one."""
    existing = versions(folder, version)
    if not existing:
        return RunFolder(folder / version)
    if not existing[-1].finished:
        return existing[-1]
    number = existing[-1].path.name.partition(".")[2]
    return RunFolder(folder / f"{version}.{int(number or 1) + 1}")
