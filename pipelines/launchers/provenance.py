"""What a launch records of the code and the packages that it runs with."""

import functools
import importlib.metadata
import platform
import subprocess
from typing import Any

from assets.paths import CHECKOUT

RECORDED = ("torch", "dagster", "transformers", "lm_eval", "tokenizers", "numpy", "pyarrow")
DIFF_LIMIT_BYTES = 1 << 20


@functools.cache
def code_state() -> dict[str, Any]:
    """Return the checkout's commit and uncommitted changes; empty where git has none."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    diff = _git("diff", "HEAD") or ""
    return {
        "commit": commit.strip(),
        "dirty": bool(diff),
        "diff": diff[:DIFF_LIMIT_BYTES],
        "diff_truncated": len(diff) > DIFF_LIMIT_BYTES,
    }


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of packages that matter to jobs, with build labels."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a machine that only orchestrates has no torch
    return found


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    try:
        return subprocess.check_output(
            command, stderr=subprocess.DEVNULL, text=True, errors="replace"
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
