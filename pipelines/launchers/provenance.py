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
    """Commit and uncommitted changes of the checkout; empty where it is no git checkout."""
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
    """Python and the packages that matter to jobs, with their build labels."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a machine that only orchestrates has no torch
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
