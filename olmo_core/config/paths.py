"""Paths that a recipe names: where they lead on this machine."""

import os
import re
from pathlib import Path


def expanded(text: str) -> tuple[Path, str]:
    """Return a path with ~ and variables replaced, and for errors what is unset, or that path."""
    path = Path(os.path.expandvars(text)).expanduser()
    unset = re.findall(r"\$\{?(\w+)", str(path))
    return path, f"not set: {', '.join(unset)}" if unset else f"now {path}"
