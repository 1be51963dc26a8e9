"""Part `gpu_tests`: the tests that are marked `gpu`, which nothing but a GPU can run."""

import os
import subprocess
import sys
from pathlib import Path

from part import CUDA, say

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Run them; return pytest's exit code."""
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text()
    ]
    if not CUDA:
        say("not run", reason="no CUDA device", files=files)
        return 0
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
