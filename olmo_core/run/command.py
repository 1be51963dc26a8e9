"""A job from the command line: its configuration file, its log, its exit code."""

import argparse
import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from olmo_core import environment
from olmo_core.config.load import build, load
from olmo_core.errors import ConfigError, exit_codes
from olmo_core.run.accepted import read_acceptances
from olmo_core.run.code import code_hashes
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from olmo_core.run.process import main_module

C = TypeVar("C")
T = TypeVar("T", bound=Callable[..., Any])


def run_job(
    config_class: type[C],
    make: Callable[[C, Mapping[str, Path], Job], Report],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one job from the command line: `python -m MODULE RUN_FOLDER/config.yaml`.

    The file holds `config` (the recipe's section) and `inputs` (asset name -> run folder).
    Exits 0, or with one of the codes of `ExitCode`.
    """
    parser = argparse.ArgumentParser(
        description=(make.__doc__ or "").strip().splitlines()[0] if make.__doc__ else None,
        epilog="The run folder is the folder of the file; result.json is written last.",
    )
    parser.add_argument("config", type=Path, metavar="RUN_FOLDER/config.yaml")
    path: Path = parser.parse_args(arguments).config
    set_up_logging()
    with exit_codes():
        tree = load(path)
        for key in ("config", "inputs"):
            if not isinstance(tree.get(key), Mapping):
                raise ConfigError(f"{path}: {key}: expected a mapping of keys")
        config = build(_importable(config_class), tree["config"], where="config")
        inputs = {name: Path(str(folder)) for name, folder in tree["inputs"].items()}
        make = _importable(make)
        require_the_submitted_code(RunFolder(path.parent))
        with contextlib.ExitStack() as before:
            job_processes = before.enter_context(_processes())
            with Job.open(path.parent) as job:
                job.executor = job_processes
                job.at_end.push(before.pop_all())
                job.ready()
                job.finish(make(config, inputs, job))


def _processes() -> contextlib.AbstractContextManager[Executor | None]:
    """Return the processes of a job whose module has imported what does tasks; else none."""
    tasks = sys.modules.get("olmo_core.tasks.map")
    return contextlib.nullcontext() if tasks is None else tasks.forked_processes()


def _importable(named: T) -> T:
    """Return a function or class of the module that is run, as other processes import it."""
    if named.__module__ != "__main__":
        return named
    return getattr(importlib.import_module(main_module()), named.__name__)


def require_the_submitted_code(folder: RunFolder) -> None:
    """Refuse other code than the folder's result is to be of: a job may wait in a queue for days.

    Raises:
        ConfigError: the code has been edited since.
    """
    parts: Mapping[str, Any] = (folder.read(folder.launch) or {}).get("parts") or {}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not parts or parts["packages"]["python"] != python:  # by hand; another Python hashes so
        return
    before, now = parts["code"], code_hashes(parts["module"])
    if before == now or _accepted(folder, now):
        return
    edited = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    raise ConfigError(
        f"{', '.join(edited)}: edited since this job was submitted, and its result would not be "
        f"what {folder.path.name} stands for; run again, or accept the difference (olmo accept)"
    )


def _accepted(folder: RunFolder, code: Mapping[str, str]) -> bool:
    """Return whether a person has said that this code makes what the folder stands for."""
    root, launch = environment.root(), folder.read(folder.launch) or {}
    return root is not None and any(
        found.old["fingerprint"] == launch.get("fingerprint") and found.new["parts"]["code"] == code
        for found in read_acceptances(root).values()
    )


def set_up_logging() -> None:
    """Log to stderr, one line per event, with the time: the launcher sends it to the run's log."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
