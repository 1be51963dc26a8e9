"""The trash of a root: runs that have been taken away and can be put back, then those that cannot.

`<root>/.trash/<when>/runs/<recipe>/<asset>[/<partition>]/<version>` as they lay in the root, and
`trash.json` with why. Emptying renames `runs` to `emptying` first: what has begun to be deleted is
never put back. A rename is whole or has not happened, so a process may be killed at any moment.
"""

import contextlib
import datetime
import getpass
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from assets.launcher import Refused
from olmo_core.files import fsync, write_json
from olmo_core.run.folder import SCHEMA_VERSION, locked
from pipelines.collect.records import VERSION

BIN = re.compile(r"[0-9]{8}T[0-9]{12}")  # when it was made, UTC, to the microsecond
TRASH, RUNS, EMPTYING, NOTE = ".trash", "runs", "emptying", "trash.json"


@dataclass(frozen=True, kw_only=True)
class Trashed:
    """A run in the trash."""

    name: str  # its place below the root
    path: Path  # where it lies now


def bins(root: Path) -> list[Path]:
    """Return the folders of the trash, each of one `olmo gc`, the oldest first."""
    trash = root / TRASH
    if not trash.is_dir() or trash.is_symlink():
        return []
    return sorted(path for path in trash.iterdir() if BIN.fullmatch(path.name) and path.is_dir())


def trashed(root: Path) -> list[Trashed]:
    """Return the runs in the trash that can be put back."""
    found: list[Trashed] = []
    for above in [bin / RUNS for bin in bins(root)]:
        paths = [path for depth in ("*/*/*", "*/*/*/*") for path in above.glob(depth)]
        found += [
            Trashed(name=str(path.relative_to(above)), path=path)
            for path in sorted(paths)
            if VERSION.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        ]
    return found


def new_bin(root: Path, why: Mapping[str, str]) -> Path:
    """Return a new folder of the trash, which says what is to come into it and why."""
    now = datetime.datetime.now(datetime.UTC)
    bin = root / TRASH / f"{now.strftime('%Y%m%dT%H%M%S%f')}"
    (bin / RUNS).mkdir(parents=True)
    write_json(
        bin / NOTE,
        {
            "schema_version": SCHEMA_VERSION,
            "who": getpass.getuser(),
            "when": now.isoformat(timespec="seconds"),
            "runs": dict(why),
        },
    )
    return bin


def take_away(root: Path, name: str, bin: Path) -> None:
    """Move a run into the trash; the folders above that are empty then go.

    Raises:
        Refused: a job is just being submitted there, or it lies on another file system.
    """
    source, target = root / name, bin / RUNS / name
    with locked(source / "submit.lock", wait=False) as ours:
        if ours is None:
            raise Refused(f"{name}: a job is being submitted there")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.rename(target)
        except OSError as error:
            raise Refused(f"{name}: {error.strerror or error}") from None
    fsync(source.parent)
    _remove_empty(source.parent, root)


def put_back(root: Path, run: Trashed) -> None:
    """Move a run back to where it lay.

    Raises:
        Refused: something else lies there now.
    """
    target = root / run.name
    if target.exists():
        raise Refused(f"{run.path}: not put back: {target} is there")
    target.parent.mkdir(parents=True, exist_ok=True)
    run.path.rename(target)
    fsync(target.parent)


def forget_empty(bin: Path) -> None:
    """Remove a folder of the trash into which nothing has come."""
    if not any((bin / RUNS).iterdir()):
        shutil.rmtree(bin)


def give_up(root: Path, name: str, bin: Path) -> None:
    """Move what can be had again to where it is deleted from; it is not put back."""
    target = bin / f"{EMPTYING}.{name.replace('/', '.')}"
    with contextlib.suppress(FileNotFoundError):
        (root / name).rename(target)


def seal(root: Path) -> None:
    """Give up what is in the trash: from here on it is not put back."""
    for bin in bins(root):
        if (bin / RUNS).is_dir():
            number = sum(path.name.startswith(EMPTYING) for path in bin.iterdir())
            (bin / RUNS).rename(bin / f"{EMPTYING}{number}")


def empty(root: Path, deleted: Callable[[int], None]) -> list[str]:
    """Delete what has been given up; return what could not be deleted, and why.

    Args:
        root: Of the trash.
        deleted: Told after each folder of how many files it held.
    """
    wrong: list[str] = []
    for bin in bins(root):
        if (bin / RUNS).is_dir():
            continue
        for parent, folders, files in os.walk(bin, topdown=False):
            links = [name for name in folders if Path(parent, name).is_symlink()]
            for name in (*files, *links):
                if not (parent == str(bin) and name == NOTE):
                    _tried(Path(parent, name), os.unlink, wrong)
            deleted(len(files))
            if parent != str(bin):
                _tried(Path(parent), os.rmdir, wrong)
        if {*bin.iterdir()} <= {bin / NOTE}:
            shutil.rmtree(bin)
    with contextlib.suppress(OSError):  # another has something there
        (root / TRASH).rmdir()
    return wrong


def _tried(path: Path, act: Callable[[Path], None], wrong: list[str]) -> None:
    try:
        act(path)
    except FileNotFoundError:
        return  # another olmo gc was faster
    except OSError as error:
        wrong.append(f"{path}: {error.strerror or error}")


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not folder.is_symlink():
        try:
            folder.rmdir()
        except OSError:
            return  # something is there
        folder = folder.parent
