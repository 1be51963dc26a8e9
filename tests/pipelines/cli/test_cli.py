"""The `olmo` command: quick to help, clear in its errors."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from olmo_core.errors import StorageError
from pipelines import instance
from pipelines.cli.run import run_graph
from tests.conftest import toy_graph

FULL = SimpleNamespace(total=1 << 30, used=(1 << 30) - (1 << 19), free=1 << 19)
RECIPES = Path(__file__).parents[3] / "pipelines" / "recipes"
OLMO = Path(sys.executable).with_name("olmo")


def olmo(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(OLMO), *arguments], capture_output=True, text=True, check=False, cwd=cwd, timeout=120
    )


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "recipes",
        "plan",
        "cost",
        "show",
        "leaderboard",
        "curves",
        "ui",
        "explorer",
        "launch",
        "jobs",
        "cancel",
        "logs",
        "attempts",
        "orphans",
        "sweep",
        "replay",
        "accept",
        "compare",
    ],
)
def test_help_shows_examples(command: str) -> None:
    done = olmo(command, "--help")
    assert done.returncode == 0
    assert f"olmo {command}" in done.stdout
    assert "Example" in done.stdout


def test_it_says_its_version_and_completes_the_names_of_recipes() -> None:
    from importlib.metadata import version

    assert olmo("--version").stdout == f"olmo {version('olmo-pipelines')}\n"
    asked = {
        "_OLMO_COMPLETE": "complete_bash",
        "COMP_WORDS": "olmo plan olmo2_7",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [str(OLMO)], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["olmo2_7b", "olmo2_7b_tokens"]


def test_recipes_are_listed_and_one_that_cannot_be_read_is_named(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(RECIPES / "demo", tmp_path / "recipes" / "mine")
    (tmp_path / "recipes" / "broken").mkdir()
    (tmp_path / "recipes" / "broken" / "corpus.yaml").write_text("raw: [\n")
    finished = toy_root / "mine" / "raw" / "0123456789ab" / "result.json"
    finished.parent.mkdir(parents=True)
    finished.write_text("{\n}\n")
    (toy_root / "mine" / "tokens" / "0123456789ab").mkdir(parents=True)
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    done = olmo("recipes", "--json")
    assert done.returncode == 1
    rows = {row["recipe"]: row for row in json.loads(done.stdout)}
    assert rows["mine"]["made"] == 1
    assert rows["mine"]["error"] is None
    assert rows["mine"]["stage1"] == "800k tokens"
    assert "broken/corpus.yaml" in rows["broken"]["error"]
    assert rows["olmo2_13b_tokens"]["extends"] == "olmo2_13b"
    assert next(iter(rows)) == "mine", "what has been made comes first"


def test_help_imports_neither_dagster_nor_torch() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from pipelines.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = ('dagster', 'torch', 'numpy', 'duckdb', 'pyarrow', 'matplotlib')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_only_reads_run_folders_imports_no_dagster() -> None:
    code = (
        "import sys\n"
        "from pipelines.cli import attempts, curves, jobs, launch, leaderboard, show\n"
        "print([m for m in ('dagster', 'sqlalchemy', 'torch', 'matplotlib') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plan_says_what_training_costs_and_what_is_not_here(toy_root: Path) -> None:
    done = olmo("plan", "olmo2_7b")
    assert done.returncode == 2
    assert "not set: OLMO_SOURCES" in done.stderr
    stage1 = next(line for line in done.stdout.splitlines() if "stage1" in line).split()
    assert stage1[1:3] == ["7,298,617,344", "928,646"]
    assert stage1[-3:] == ["0.0003", "→", "6.1351e-05"]
    assert done.stdout.count("stage2_ingredient") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "dmo"), "unknown recipe 'dmo'; did you mean 'demo'?"),
        (("run", "demo", "--select", "stage11"), "no asset 'stage11'; did you mean 'stage1'?"),
        (("show", "demo", "sup"), "no asset 'sup'; did you mean 'soup'?"),
        (("leaderboard", "demo"), "no leaderboard has been made; start with: olmo run demo"),
        (("leaderboard", "demo", "--json"), "no leaderboard has been made"),
        (("curves", "demo"), "demo: nothing has been evaluated; start with: olmo sweep demo"),
        (("curves", "demo", "--out", "a.pdf"), "a.pdf: expected a name that ends in .png or .svg"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    toy_root: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = olmo(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_show_of_nothing_is_an_empty_list(toy_root: Path) -> None:
    assert json.loads(olmo("show", "demo", "--json").stdout) == []


def test_a_root_that_is_a_file_is_named(toy_root: Path) -> None:
    toy_root.write_text("a file")
    done = olmo("run", "demo")
    assert done.returncode == 1
    assert f"{toy_root}: results cannot be written there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("run", "demo"), ("ui", "--port", "47613")])
def test_a_root_where_nothing_can_be_written_is_not_called_full(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_ROOT", "/proc/olmo")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    done = olmo(*command)
    assert done.returncode == 1
    assert "/proc/olmo: results cannot be written there (No such file" in done.stderr
    assert "full" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_one_message(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance.shutil, "disk_usage", lambda path: FULL)
    with pytest.raises(StorageError, match=r"the disk is full \(0\.5 MiB free"):
        run_graph(toy_graph(), [], force=False)


def test_a_port_in_use_is_named(toy_root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = olmo("ui", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_the_address_of_the_ui_is_printed_when_its_port_answers() -> None:
    code = (
        "import socket, sys\n"
        "from pipelines.cli.ui import announce\n"
        "server = socket.socket()\n"
        "server.bind(('127.0.0.1', 0))\n"
        "announce('127.0.0.1', server.getsockname()[1])\n"
        "print('open', flush=True)\n"
        "server.listen()\n"
        "server.accept()\n"
        "print(server.getsockname()[1], file=sys.stderr)\n"  # both may print at once
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"open\nDagster UI: http://127.0.0.1:{done.stderr.strip()}\n"


def test_definitions_load_without_torch() -> None:
    code = (
        "import sys, time\n"
        "from pipelines.definitions import build_definitions\n"
        "build_definitions(['demo']).resolve_all_job_defs()\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False False", done.stderr
    assert time.monotonic() - began < 60
