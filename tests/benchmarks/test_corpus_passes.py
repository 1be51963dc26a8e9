"""What `corpus_passes.py` refuses, before it takes minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "corpus_passes.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dolma", "--only=raw"], "--dolma compares tagged and filtered; expected both"),
        (["--dolma", "--only=raw,tagged"], "--dolma compares tagged and filtered; expected both"),
        (["--dolma", "--no-tags"], "--dolma compares tagged and filtered; expected both"),
        (["--only=raw,tags"], "--only: 'tags'; expected names of raw, near_duplicates, "),
    ],
)
def test_passes_that_cannot_be_reported_are_refused(options: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--mb=0.1", *options], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not done.stdout
