"""Stage `gpu_tests`: the tests that are marked `gpu`, which nothing but a GPU can run."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from stage import CUDA, say

ROOT = Path(__file__).resolve().parent.parent.parent
LAST_LINES = 40


def main() -> int:
    """Run them, and say how they ended; return pytest's exit code."""
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text()
    ]
    reason = None if CUDA else "no CUDA device"
    if importlib.util.find_spec("pytest") is None:
        reason = "pytest is not installed"
    if reason is not None:
        say("not run", reason=reason, files=files)
        return 0
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = done.stdout.rstrip().splitlines()[-LAST_LINES:]
    say("pytest", files=files, exit_code=done.returncode, said=said)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
