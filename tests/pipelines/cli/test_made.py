"""`olmo open`, `olmo show` and the names that `olmo sample` takes."""

import json
import threading
import webbrowser
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assets.assemble import build_graph
from assets.lineage.loadable import find_loadable
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, write_json
from pipelines.cli.main import app
from pipelines.cli.open_page import open_page
from tests.assets.made import make_all, unchecked
from tests.conftest import printed


@pytest.fixture
def ui() -> Iterator[HTTPServer]:
    """Something that answers as a Dagster UI does, or with `answer`."""

    class Handler(BaseHTTPRequestHandler):
        answer = json.dumps({"dagster_version": "1"}).encode()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(type(self).answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_page_is_printed_and_opened(
    ui: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    port = ui.server_port
    open_page("demo", "stage1", "127.0.0.1", port, browse=True)
    open_page("demo", None, "127.0.0.1", port, browse=True)
    open_page(None, None, "127.0.0.1", port, browse=False)
    address = f"http://127.0.0.1:{port}"
    expected = [
        f"{address}/assets/demo/stage1",
        f"{address}/locations/pipelines.definitions/jobs/demo",
    ]
    assert opened == expected
    assert capsys.readouterr().out.split() == [*expected, f"{address}/"]
    with pytest.raises(ConfigError, match="no asset 'stage'; did you mean"):
        open_page("demo", "stage", "127.0.0.1", port, browse=True)


def test_it_says_if_no_dagster_answers(ui: HTTPServer) -> None:
    port = ui.server_port
    ui.RequestHandlerClass.answer = b"[]"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="something else than a Dagster UI"):
        open_page(None, None, "127.0.0.1", port, browse=False)
    ui.server_close()
    with pytest.raises(InputError, match=r"no Dagster UI answers .*; start it with olmo ui"):
        open_page(None, None, "127.0.0.1", port, browse=False)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A variant of the demo, all of it made."""
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    recipe = tmp_path / "root" / "recipes" / "faster"
    recipe.mkdir(parents=True)
    (recipe / "recipe.yaml").write_text("extends: demo\n")
    (recipe / "stage1.yaml").write_text("optimizer: {learning_rate: 0.002}\n")
    make_all(unchecked(build_graph(load_recipe("faster"))), tmp_path / "root")
    return tmp_path / "root"


def test_show_says_where_a_result_comes_from(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.cli import show

    graph = unchecked(build_graph(load_recipe("faster")))
    monkeypatch.setattr(show, "build_graph", lambda _: graph)
    [run] = (root / "faster" / "stage1").iterdir()
    launch = read_json(run / "launch.json")
    code = {"commit": "abc123" * 7, "dirty": True, "diff": "x" * 5, "diff_truncated": False}
    write_json(run / "launch.json", {**launch, "code": code})
    for path in root.glob("faster/*/*/result.json"):
        timed = {"work_seconds": 1.0, "start_seconds": 1.0, "peak_memory_bytes": 1}
        write_json(path, {**read_json(path), **timed})
    show.print_assets("faster", "stage1", as_json=True)
    [entry] = json.loads(capsys.readouterr().out)
    assert (entry["commit"], entry["uncommitted"]) == ("abc123abc123", 5)
    assert entry["seeds"] == {"seed": 6198}
    assert entry["overrides"] == {"stage1.optimizer.learning_rate": 0.002}
    assert set(entry["inputs"]) == {"stage1_mix", "tokens", "tokenizer"}
    assert entry["inputs"]["tokens"].startswith("faster/tokens/")
    show.print_assets("faster", "stage1", as_json=False)
    assert "overrides: stage1.optimizer.learning_rate 0.002" in printed(capsys)
    show.print_assets("faster", "raw", as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["overrides"] == {}


def finish(root: Path, asset: str, data: dict[str, Any]) -> Path:
    [run] = (root / "faster" / asset).iterdir()
    result = read_json(run / "result.json")
    result["report"]["data"] = data
    write_json(run / "result.json", result)
    return run


def test_a_name_means_an_export_if_there_is_one_else_the_weights(root: Path) -> None:
    soup, export = finish(root, "soup", {}), finish(root, "export", {"models": []})
    [tokenizer] = (root / "faster" / "tokenizer").iterdir()
    with pytest.raises(InputError, match="makes no model"):
        find_loadable("faster/soup", root)
    (soup / "model").mkdir()
    found = find_loadable("faster/soup", root)
    assert (found.folder, found.tokenizer) == (soup / "model", tokenizer)
    finish(root, "export", {"models": [{"model": "soup", "path": "exports/soup"}]})
    found = find_loadable("faster/soup", root)
    assert (found.folder, found.tokenizer) == (export / "exports" / "soup", None)
    for name in ("faster", "nobody/soup", "faster/soup/000"):
        with pytest.raises(ConfigError):
            find_loadable(name, root)


def test_several_greedy_continuations_are_refused() -> None:
    done = CliRunner().invoke(app, ["sample", "demo/soup", "a", "-n", "2"])
    assert isinstance(done.exception, ConfigError)
    assert "give --temperature" in str(done.exception)
