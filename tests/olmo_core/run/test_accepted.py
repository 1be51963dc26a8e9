"""A job that begins with other code than it was submitted with is refused, unless accepted."""

import json
import sys
from pathlib import Path

import pytest

from olmo_core.errors import ConfigError
from olmo_core.run.accepted import (
    Acceptance,
    read_acceptances,
    remove_acceptance,
    write_acceptance,
)
from olmo_core.run.code import code_hashes
from olmo_core.run.command import require_the_submitted_code
from olmo_core.run.folder import RunFolder

MODULE = "olmo_core.corpus.tokens.mix"


def test_a_job_begins_with_other_code_where_that_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    folder = RunFolder(tmp_path / "toy" / "mix" / "old")
    folder.path.mkdir(parents=True)
    packages = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    now = {"module": MODULE, "code": code_hashes(MODULE), "packages": packages}
    before = {**now, "code": {**code_hashes(MODULE), MODULE: "before"}}
    launch = {"schema_version": 1, "fingerprint": "old", "parts": before}
    folder.launch.write_text(json.dumps(launch))
    with pytest.raises(ConfigError, match=f"^{MODULE}: edited since .*olmo accept"):
        require_the_submitted_code(folder)
    acceptance = Acceptance(
        recipe="toy",
        asset="mix",
        who="me",
        when="2026-01-01T00:00:00+00:00",
        because="same",
        differences=[],
        old={"fingerprint": "old", "parts": before},
        new={"fingerprint": "new", "parts": now},
    )
    write_acceptance(tmp_path, acceptance)
    assert read_acceptances(tmp_path) == {"new": acceptance}
    require_the_submitted_code(folder)
    folder.launch.write_text(json.dumps({**launch, "fingerprint": "another"}))
    with pytest.raises(ConfigError, match="edited since"):
        require_the_submitted_code(folder)
    folder.launch.write_text(json.dumps(launch))
    remove_acceptance(tmp_path, acceptance)
    with pytest.raises(ConfigError, match="edited since"):
        require_the_submitted_code(folder)
