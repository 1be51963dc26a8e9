"""Fill the environments with uv, both at once, in pip's configured places."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from environments.failure import SetupError, explain, went_offline
from environments.pip_settings import UvSettings
from environments.stamp import Environment, digest, read_stamp, remove_stamp, write_stamp

HEARTBEAT_SECONDS = 10
# They would keep bytecode from being written, or send Python and uv to other packages.
UNWANTED_VARIABLES = (
    "CONDA_PREFIX",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONPYCACHEPREFIX",
    "VIRTUAL_ENV",
)


@dataclass(frozen=True, kw_only=True)
class Installer:
    """uv, and what it is told on every call."""

    root: Path
    uv: Path
    settings: UvSettings

    def make(self, environment: Environment, python: Path) -> None:
        """Make the environment, or bring it up to date if it is whole; stamp it last."""
        started = time.monotonic()
        folder = self.root / environment.folder
        log = self.root / ".build" / f"{environment.name}.log"
        log.unlink(missing_ok=True)
        made_from = digest(self.root, environment)
        whole = read_stamp(self.root, environment) is not None
        update = whole and build_of(folder / "bin/python") == build_of(python)
        remove_stamp(self.root, environment)
        if not update:
            # What an interrupted set-up left may hold half a package: begin from nothing.
            self._uv("venv", "--clear", "--python", str(python), str(folder), log=log)
        target = ("pip", "install", "--compile-bytecode", "--python", str(folder / "bin/python"))
        # Not `sync`: torch's CUDA build brings packages that the lock does not name.
        self._uv(*target, "--exact", "-r", environment.lock, *self.settings.options, log=log)
        if environment.alone:
            options = ("--no-deps", "-r", environment.alone, *self.settings.options)
            self._uv(*target, *options, log=log)
        if environment.project:
            options = ("--no-deps", "--no-build-isolation", "--offline", "--editable", ".")
            self._uv(*target, *options, log=log)
        write_stamp(self.root, environment, made_from)
        packages = len(list(folder.glob("lib/python*/site-packages/*.dist-info")))
        say(f"{environment.name}: ready, {packages} packages, {seconds(started)}")

    def _uv(self, *arguments: str, log: Path) -> None:
        command = [str(self.uv), *arguments]
        status, output = run_logged(command, self.root, log, self.settings.variables)
        if status and went_offline(output) and "--offline" not in command:
            # The network is asked for lists even where every package is in the cache.
            status, _ = run_logged([*command, "--offline"], self.root, log, self.settings.variables)
        if status:
            raise SetupError(explain(output, log))


def make_all(installer: Installer, pythons: Mapping[Environment, Path]) -> None:
    """Make the environments at once, each with its Python; say now and then how far it has come."""
    started = time.monotonic()
    free_before = free_bytes(installer.root)
    with ThreadPoolExecutor(len(pythons)) as pool:
        running = {
            pool.submit(installer.make, environment, python): environment.name
            for environment, python in pythons.items()
        }
        while pending := wait(running, timeout=HEARTBEAT_SECONDS).not_done:
            names = " and ".join(sorted(running[each] for each in pending))
            written = max(0, free_before - free_bytes(installer.root))
            say(f"{names}: installing, {written / 1e9:.1f} GB written, {seconds(started)}")
    for each in running:
        each.result()


def build_of(python: Path) -> str:
    """Return the version and build of an interpreter; empty where it does not run."""
    answer = subprocess.run(
        [str(python), "-c", "import sys; print(sys.version)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout


def install_uv(root: Path, python: Path) -> Path:
    """uv of the pinned version, fetched by pip into an environment of its own."""
    requirement = root / "environments/uv.txt"
    version = requirement.read_text().partition("uv==")[2].split()[0]
    folder = root / ".build/uv"
    uv = folder / "bin/uv"
    if uv.exists():
        answer = subprocess.run([str(uv), "--version"], capture_output=True, text=True, check=False)
        if answer.stdout.split()[1:2] == [version]:
            return uv
    started = time.monotonic()
    log = root / ".build/uv.log"
    log.unlink(missing_ok=True)
    pip = (str(folder / "bin/python"), "-m", "pip", "install", "--no-user")
    for command in (
        (str(python), "-m", "venv", "--clear", str(folder)),
        (*pip, "--only-binary", ":all:", "-r", str(requirement)),
    ):
        status, output = run_logged(command, root, log)
        if status:
            raise SetupError(explain(output, log))
    say(f"uv: {version} ready, {seconds(started)}")
    return uv


def run_logged(
    command: Sequence[str], root: Path, log: Path, variables: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command in the checkout; its exit status and all that it printed, kept in `log` too."""
    environ = {name: value for name, value in os.environ.items() if name not in UNWANTED_VARIABLES}
    environ |= {"UV_PYTHON_DOWNLOADS": "never", **(variables or {})}
    done = subprocess.run(
        command,
        cwd=root,
        env=environ,
        close_fds=False,  # for the set-up lock; Python opens all else as not inheritable
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    with log.open("a") as file:
        file.write(done.stdout)
    return done.returncode, done.stdout


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write on the disk of `folder`."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def seconds(since: float) -> str:
    """The time passed since `since`, for a line of progress."""
    return f"{time.monotonic() - since:.0f} s"


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(f"  {line}", flush=True)
