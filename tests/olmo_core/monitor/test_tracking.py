"""W&B beside a run: off, offline, and unable to fail it."""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from olmo_core.config.placement import WandbConfig
from olmo_core.monitor import tracking
from olmo_core.monitor.tracking import Tracker


class FakeRun:
    url = "https://wandb.example/olmo/runs/1"
    offline = False

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.broken = self.finished = False

    def log(self, row: dict[str, float], step: int) -> None:
        if self.broken:
            raise OSError("no route to host")
        self.rows.append((step, row))

    def define_metric(self, name: str, **keywords: Any) -> None:
        pass

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    fake = SimpleNamespace(run=FakeRun(), calls=[])

    def init(**keywords: Any) -> FakeRun:
        fake.calls.append(keywords)
        return fake.run

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)  # pyright: ignore
    for name in (
        "WANDB_MODE",
        "WANDB_API_KEY",
        "WANDB_INIT_TIMEOUT",
        "WANDB_FINISH_TIMEOUT",
        "NETRC",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return fake


def test_offline_without_a_key_and_one_id_across_resumes(
    wandb: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        tracker = Tracker(WandbConfig(log_interval=2), tmp_path, {"run_name": "r"})
        for step in (1, 2, 3, 4):
            tracker.log({"loss": 1.0}, step)
        tracker.finish()
    assert [step for step, _ in wandb.run.rows] == [2, 4, 2, 4]
    assert wandb.run.finished
    assert [call["mode"] for call in wandb.calls] == ["offline", "offline"]
    assert wandb.calls[0]["id"] == wandb.calls[1]["id"]
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert Tracker(WandbConfig(), tmp_path, {}).url == FakeRun.url
    assert wandb.calls[2]["mode"] == "online"
    # seconds, where W&B's own are 90, and none
    assert wandb.calls[2]["settings"] == {"init_timeout": 10, "finish_timeout": 60}


def test_off_without_a_section_or_when_told(
    wandb: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Tracker(None, tmp_path, {}).log({"loss": 1.0}, 1)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    Tracker(WandbConfig(), tmp_path, {}).log({"loss": 1.0}, 1)
    assert wandb.calls == []


def test_its_failures_end_nothing_but_itself(wandb: SimpleNamespace, tmp_path: Path) -> None:
    tracker = Tracker(WandbConfig(), tmp_path, {})
    wandb.run.broken = True
    tracker.log({"loss": 1.0}, 1)
    tracker.log({"loss": 1.0}, 2)
    tracker.finish()
    del wandb.init
    Tracker(WandbConfig(), tmp_path, {}).log({"loss": 1.0}, 1)


def test_the_library_itself_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = Tracker(WandbConfig(project="p"), tmp_path, {"run_name": "r"})
    for step in (1, 2):
        tracker.log({"loss": 1.0}, step)
        assert tracker.url is None
    assert "URL" not in capfd.readouterr().err  # a warning a step
    tracker.finish()
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_a_server_that_does_not_answer_costs_seconds_and_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"  # bound, and nobody listens
        for name, value in {
            "WANDB_API_KEY": "k" * 40,
            "WANDB_BASE_URL": address,
            "WANDB_HTTP_TIMEOUT": "1",
            "WANDB_INIT_TIMEOUT": "1",
            "WANDB_SILENT": "true",
        }.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # it read the environment once
        begun = time.monotonic()
        tracker = Tracker(WandbConfig(project="p"), tmp_path, {"run_name": "r"})
        assert time.monotonic() - begun < 20
        tracker.log({"loss": 1.5}, 1)
        tracker.finish()
        wandb.teardown()
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"loss" in kept.read_bytes()


class Answers(BaseHTTPRequestHandler):
    """As much of W&B's server as its library asks for before a run begins."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        query, variables = asked.get("query", ""), asked.get("variables") or {}
        me = {"id": "1", "name": "me"}
        data: dict[str, Any] = {}
        if "upsertBucket" in query:
            project = {"id": "2", "name": "p", "entity": me}
            bucket = {"id": "3", "name": variables.get("name"), "config": "{}", "project": project}
            data = {"upsertBucket": {"bucket": bucket, "inserted": True}}
        elif "viewer" in query:
            teams = {"edges": [{"node": me}]}
            data = {"viewer": {"id": "1", "username": "me", "entity": "me", "teams": teams}}
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_server_that_goes_away_does_not_keep_a_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "WANDB_API_KEY": "k" * 40,
        "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "WANDB_SILENT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_FINISH_TIMEOUT", raising=False)
    monkeypatch.setattr(tracking, "_FINISH_TIMEOUT_SECONDS", 1)
    wandb.teardown()  # it read the environment once
    tracker = Tracker(WandbConfig(project="p", entity="me"), tmp_path, {"run_name": "r"})
    assert tracker.url is not None
    server.shutdown()
    server.server_close()
    tracker.log({"loss": 1.5}, 1)
    ended = threading.Thread(target=tracker.finish, daemon=True)
    ended.start()
    ended.join(30)
    assert not ended.is_alive()
    wandb.teardown()
