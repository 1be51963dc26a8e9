"""Which environments the checkout has, and whether each is what it would be made into now."""

import hashlib
import json
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STAMP = "olmo-set-up.json"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")  # as pyproject.toml and setup.sh have them


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One environment of the checkout and the files that it is made from."""

    name: str
    folder: str  # below the checkout
    lock: str
    alone: str = ""  # requirements installed without what they depend on
    project: bool = False  # holds the checkout itself, editable
    pythons: tuple[str, ...] = PYTHONS  # what its packages have wheels for, the preferred one first
    disk_bytes: int  # measured on a first set-up: uv's cache, bytecode, room to unpack

    def takes(self, python_version: str) -> bool:
        """Return whether the environment can be made with that Python, such as "3.11.7"."""
        return python_version.rpartition(".")[0] in self.pythons


ENVIRONMENTS = (
    Environment(
        name="main",
        folder=".venv",
        lock="environments/main.txt",
        alone="environments/eval-data.txt",
        project=True,
        disk_bytes=3_600_000_000,
    ),
    Environment(
        name="dolma",
        folder=".venv-dolma",
        lock="environments/dolma.txt",
        pythons=("3.11", "3.12"),
        disk_bytes=700_000_000,
    ),
)


# For benchmarks alone, and made only when asked for: its package takes the name olmo_core.
PEER = Environment(
    name="peer",
    folder=".venv-peer",
    lock="environments/peer.txt",
    disk_bytes=1_500_000_000,
)


def outdated(root: Path, environments: Sequence[Environment] = ENVIRONMENTS) -> list[Environment]:
    """Those whose stamp is missing or differs from what they would be made from.

    A linked folder is another checkout's (a git worktree shares it), and that one's to keep.
    """
    return [
        environment
        for environment in environments
        if not (root / environment.folder).is_symlink()
        and read_stamp(root, environment) != digest(root, environment)
    ]


def digest(root: Path, environment: Environment) -> str:
    """A digest of all that decides what the environment holds."""
    # Scripts in an environment hold its path, so a checkout that was moved needs a new one.
    facts = [str(root), platform.machine(), repr(environment)]
    # One made with a Python of its own stays while that Python is there (read_stamp asks for it).
    running = platform.python_version()
    facts.append(running if environment.takes(running) else "its own Python")
    for file in (environment.lock, environment.alone, "environments/install.py"):
        facts.append((root / file).read_text() if file else "")
    if environment.project:
        pyproject = tomllib.loads((root / "pyproject.toml").read_text())
        # The rest is the linters' and changes nothing that is installed.
        decisive = [
            pyproject["build-system"],
            pyproject["project"],
            pyproject["tool"]["setuptools"],
        ]
        facts.append(json.dumps(decisive, sort_keys=True))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def read_stamp(root: Path, environment: Environment) -> str | None:
    """The digest that the environment was made from; None if it is not whole."""
    folder = root / environment.folder
    if not (folder / "bin/python").exists():
        return None
    try:
        return str(json.loads((folder / STAMP).read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_stamp(root: Path, environment: Environment) -> None:
    """Say that the environment is being changed; it counts as nothing until it is stamped."""
    (root / environment.folder / STAMP).unlink(missing_ok=True)


def write_stamp(root: Path, environment: Environment, made_from: str) -> None:
    """Say that the environment is whole, by the digest it was made from; written last."""
    path = root / environment.folder / STAMP
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps({"schema_version": 1, "digest": made_from}))
    beside.replace(path)
