"""Addresses of what lies elsewhere, in the places of a configuration that also take local paths."""

import re
from pathlib import Path


def is_remote(place: str) -> bool:
    """Whether `place` is to be read over http(s) or fsspec, rather than a local path."""
    return "://" in place


def path_text(path: Path) -> str:
    """A path as it was written: pathlib drops one of the two slashes of an address."""
    return re.sub(r"^([a-z0-9]+):/(?=[^/])", r"\1://", str(path))
