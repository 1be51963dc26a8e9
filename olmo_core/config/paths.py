"""Where files lie on this machine: at the paths that a recipe names, or in an installed package."""

import importlib.util
import os
import re
from pathlib import Path

from olmo_core.errors import InputError


def expanded(text: str) -> tuple[Path, str]:
    """Return a path with ~ and variables replaced, and for errors what is unset, or that path."""
    path = Path(os.path.expandvars(text)).expanduser()
    unset = re.findall(r"\$\{?(\w+)", str(path))
    return path, f"not set: {', '.join(unset)}" if unset else f"now {path}"


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        InputError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package {name} is not installed in this environment")
    return Path(next(iter(spec.submodule_search_locations)))
