"""Both environments stand in the checkout, whole and as locked, or an error says what to do.

Run by environments/setup.sh with the system's Python; needs its standard library alone. Each
environment holds a stamp, written last: a digest of all that it was made from. Where the stamp
agrees nothing is done; where it differs the environment is brought up to date; where it is missing,
as after a set-up that was interrupted, the environment is made anew.
"""

import contextlib
import fcntl
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from environments.failure import SetupError, no_space
from environments.install import Installer, free_bytes, install_uv, make_all, say
from environments.pip_settings import UvSettings, read_pip_configuration, uv_settings
from environments.pythons import base_python, environment_python
from environments.stamp import ENVIRONMENTS, PEER, Environment, outdated, read_stamp

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """Set up the checkout, or with `peer` the benchmarks' own environment; 0 when ready."""
    environments = (PEER,) if list(arguments) == ["peer"] else ENVIRONMENTS
    try:
        if outdated(ROOT, environments):
            set_up(ROOT, environments)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up interrupted; the next one repairs what is half done", file=sys.stderr)
        return 130
    return 0


def set_up(root: Path, environments: Sequence[Environment] = ENVIRONMENTS) -> None:
    """Make or update those environments of `root` whose stamps do not agree.

    Raises:
        SetupError: The disk is too small or not writable, or a Python or a package cannot be had.
    """
    started = time.monotonic()
    with exclusive(root):
        wanted = outdated(root, environments)
        if not wanted:  # the set-up that we waited for has done it
            return
        python = base_python()
        print(f"Setting up with Python {platform.python_version()}, {python}", flush=True)
        needed_bytes = sum(each.disk_bytes for each in wanted if read_stamp(root, each) is None)
        check_disk(root, needed_bytes)
        uv = install_uv(root, python)
        check_disk(cache_folder(uv), needed_bytes)
        settings = pip_settings(root, python)
        if settings.notes:
            say(f"pip's configuration, told to uv: {'; '.join(settings.notes)}")
        # Before anything large is fetched, so that a missing Python is said at once.
        pythons = {each: environment_python(root, each, uv, settings) for each in wanted}
        make_all(Installer(root=root, uv=uv, settings=settings), pythons)
    print(f"Set-up complete, {time.monotonic() - started:.0f} s", flush=True)


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the set-up lock of the checkout; a second set-up waits for the first."""
    try:
        (root / ".build").mkdir(exist_ok=True)
        lock = (root / ".build/set-up.lock").open("a")
    except OSError as error:
        raise SetupError(
            f"cannot write in {root}: {error.strerror}\n"
            "  The environments are made in the checkout: clone it where you may write."
        ) from error
    with lock:
        # Children hold it too, so that uv, outliving a set-up that was killed, is waited for.
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this checkout is at work; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what would fill the disk of `folder`."""
    while not folder.exists():
        folder = folder.parent
    free = free_bytes(folder)
    if free < needed_bytes:
        raise SetupError(no_space(folder, free, needed_bytes))


def cache_folder(uv: Path) -> Path:
    """Where uv keeps what it fetched; environments share those files if they share the disk."""
    answer = subprocess.run([str(uv), "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(answer.stdout.strip())


def pip_settings(root: Path, python: Path) -> UvSettings:
    """What pip is configured with, as uv's options."""
    for each in (python, root / ".build/uv/bin/python"):
        with contextlib.suppress(subprocess.CalledProcessError):  # a Python without pip
            return uv_settings(read_pip_configuration(each))
    return UvSettings()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
