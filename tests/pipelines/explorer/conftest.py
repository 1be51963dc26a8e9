"""Run folders that are made up, and a browser's requests to the explorer over them."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipelines.explorer.app import application

VERSION = "0123456789ab"
ADDRESS = "http://127.0.0.1"


def make_run(
    root: Path,
    name: str,
    *,
    steps: int = 20,
    finished: bool = True,
    config: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write the folder of a run, `<recipe>/<asset>/<version>`; `more` is of its result's data."""
    folder = root / name
    folder.mkdir(parents=True)
    recipe, asset, version = name.split("/")
    said = {"schema_version": 1, "recipe": recipe, "asset": asset, "partition": None}
    inputs = more.pop("inputs", {})
    parts = {"module": "olmo_core.train", "config": config or {"seed": 1}, "code": {}, "inputs": {}}
    write(
        folder / "launch.json", {**said, "fingerprint": version, "parts": parts, "inputs": inputs}
    )
    rows = [row(step) for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    status = {"schema_version": 1, "state": "done" if finished else "running", "unit": "steps"}
    status |= {"step": steps, "done": steps, "total": 20, "loss": 3.25, "heartbeat": 1e9}
    write(folder / "status.json", status)
    if finished:
        data = {"step": steps, "tokens": steps * 2048, **more}
        report = {"numbers": {"parameters": 1000}, "data": data, "tables": {}}
        result = {**said, "inputs": inputs, "finished": 1e9, "report": report}
        write(folder / "result.json", result)
    return folder


def recorded(name: str, root: str = "own") -> dict[str, str]:
    """An input as a run records it: `<recipe>/<asset>/<version>`, and in which root."""
    return {"root": root, "path": name, "fingerprint": "0" * 64, "digest": "0" * 64}


def row(step: int, **more: Any) -> dict[str, Any]:
    """A row of metrics.jsonl."""
    return {
        "step": step,
        "train/masked_instances": 0.0,
        "train/CrossEntropyLoss": 9 - step / 10,
        "throughput/total_tokens": step * 2048,
        **more,
    }


def write(path: Path, value: Any) -> None:
    """Write JSON as a job does: the end of a mapping stands on a line of its own."""
    path.write_text(json.dumps(value, indent=1) + "\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root of results."""
    made = tmp_path / "root"
    made.mkdir()
    monkeypatch.setenv("OLMO_ROOT", str(made))
    return made


@pytest.fixture
def client(root: Path) -> TestClient:
    """Ask the explorer as a browser does."""
    return TestClient(application(root), base_url=ADDRESS, raise_server_exceptions=False)
