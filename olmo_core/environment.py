"""The environment variables of this project, each read here and nowhere else.

A person sets those of the first group. Launchers and supervisors set those of the second for the
processes that they start.
"""

import functools
import os
from pathlib import Path

ROOT = "OLMO_ROOT"  # folder of all results
SHARED_ROOTS = "OLMO_SHARED_ROOTS"  # read-only folders of results, separated as in PATH
RECIPES = "OLMO_RECIPES"  # folders of recipes, separated as in PATH
SHOW = "OLMO_SHOW"  # recipes that Dagster shows without results: names with commas, or all
SITE = "OLMO_SITE"  # site file: which engine runs what
CACHE = "OLMO_CACHE"  # folder of what can be had again: remote files, parsed code
DOLMA_PYTHON = "OLMO_DOLMA_PYTHON"  # interpreter that has the dolma toolkit
EXPLORER = "OLMO_EXPLORER"  # address of the explorer, which Dagster's assets link to
EXPLORER_HOSTS = "OLMO_EXPLORER_HOSTS"  # by which a proxy asks the explorer for, with commas

RUN_FOLDER = "OLMO_RUN_FOLDER"
ATTEMPT = "OLMO_ATTEMPT"  # number of the one that this process belongs to, from its supervisor
JOB_ID = "OLMO_JOB_ID"  # the engine's name of the job
NODE_RANK = "OLMO_NODE_RANK"
PROCESSES = "OLMO_PROCESSES"  # that may compute at once in one task
WORKER = "OLMO_WORKER"  # number of this worker, from 1
WORKERS = "OLMO_WORKERS"  # that the leader may be joined by
DASK_ADDRESS = "OLMO_DASK_ADDRESS"  # of a cluster that is there already
DASK_DASHBOARD = "OLMO_DASK_DASHBOARD"  # port on 127.0.0.1
SUBMITTED_AT = "OLMO_SUBMITTED_AT"  # Unix time
RESTART = "OLMO_RESTART"  # how often the pods of this JobSet have been started anew

# Of the process that started this one, not of what this one starts.
NOT_INHERITED = (ATTEMPT, RUN_FOLDER, JOB_ID, NODE_RANK, RESTART)


def cache(configured: Path | None = None) -> Path:
    """Return the folder of what can be had again: as configured or set, else `~/.cache/olmo`.

    Raises:
        RuntimeError: it is not set, and this account has no home folder.
    """
    return configured or _path(CACHE) or Path.home() / ".cache" / "olmo"


def processes() -> int:
    """Return how many processes may compute at once: as set, else one per core of this process."""
    return _whole_number(PROCESSES) or len(os.sched_getaffinity(0))


def workers() -> int:
    """Return how many workers may join this job's leader; 0 where it works alone."""
    return _whole_number(WORKERS) or 0


def submitted_at() -> float | None:
    """Return when the job was submitted (Unix time); None where the launcher did not say."""
    given = _text(SUBMITTED_AT)
    return float(given) if given else None


def named(variable: str) -> str | None:
    """Return the value of a variable whose name a configuration gives; None: it is not set."""
    return _text(variable)


def explorer_hosts() -> list[str]:
    """Return the names by which a proxy asks the explorer for."""
    given = os.environ.get(EXPLORER_HOSTS, "").split(",")
    return [host for part in given if (host := part.strip())]


def shown_recipes() -> list[str]:
    """Return the recipes that a person wants to see in Dagster; none where nothing is said."""
    return [name for part in (_text(SHOW) or "").split(",") if (name := part.strip())]


def _text(name: str) -> str | None:
    return os.environ.get(name) or None


def _whole_number(name: str) -> int | None:
    given = _text(name)
    return int(given) if given else None


def _path(name: str) -> Path | None:
    given = _text(name)
    return Path(given).expanduser() if given else None


def _paths(name: str) -> list[Path]:
    return [Path(part) for part in os.environ.get(name, "").split(os.pathsep) if part]


# One reader per variable, whose meaning stands beside its name above. Each returns None, or an
# empty list, where the variable is not set; folders are searched in the order of the list.
root = functools.partial(_path, ROOT)
shared_roots = functools.partial(_paths, SHARED_ROOTS)
recipe_folders = functools.partial(_paths, RECIPES)
site_file = functools.partial(_path, SITE)
dolma_python = functools.partial(_text, DOLMA_PYTHON)
explorer = functools.partial(_text, EXPLORER)
attempt = functools.partial(_whole_number, ATTEMPT)
job_id = functools.partial(_text, JOB_ID)
restart = functools.partial(_whole_number, RESTART)
dask_address = functools.partial(_text, DASK_ADDRESS)
dask_dashboard = functools.partial(_whole_number, DASK_DASHBOARD)
