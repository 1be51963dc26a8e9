"""Keys are written nowhere, nothing from outside is unpickled, the UI is for this machine alone."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.paths import CHECKOUT
from pipelines.cli.ui import ui_command

KEYS = ("WANDB_API_KEY", "HF_TOKEN", "DAGSTER_PG_PASSWORD", "AWS_SECRET_ACCESS_KEY")
CANARY = "canary-8c1f-{}"

RUN = """
import sys
from pipelines.cli.run import run_graph
from tests.conftest import toy_graph
sys.exit(run_graph(toy_graph(second={"fail": True}), [], force=False))
"""
SUBMIT = """
import sys
from pathlib import Path
from assets.paths import root
from assets.execution.produce import launch_of, main_line_work
from pipelines.launchers.router import site_launcher
from tests.conftest import toy_graph
print(site_launcher().dry_run(launch_of(main_line_work(toy_graph(), "first", root()), root())))
"""


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Secrets of the environment; their values are to appear nowhere."""
    values = [CANARY.format(number) for number in range(len(KEYS))]
    for name, value in zip(KEYS, values, strict=True):
        monkeypatch.setenv(name, value)
    return values


def test_no_key_is_in_any_file_or_output(toy_root: Path, tmp_path: Path, keys: list[str]) -> None:
    """Of a run with a job that finishes and one that fails, with its diagnosis."""
    site = tmp_path / "site.yaml"
    site.write_text("slurm: {pass_environment: [WANDB_API_KEY]}\nwork: {corpus: {engine: local}}\n")
    os.environ["OLMO_SITE"] = str(site)
    try:
        done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, check=False)
    finally:
        del os.environ["OLMO_SITE"]
    assert done.returncode == 1
    assert b"toy.jsonl:7: text missing" in done.stdout
    files = [path for path in toy_root.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"launch.json", "status.json", "result.json", "config.yaml", "submission1.log"} <= names
    assert any(path.suffix == ".db" for path in files)
    for content in [done.stdout, done.stderr, *(path.read_bytes() for path in files)]:
        for key in keys:
            assert key.encode() not in content


@pytest.mark.parametrize(
    "site",
    [
        "slurm: {pass_environment: [WANDB_API_KEY, HF_TOKEN]}\nwork: {corpus: {engine: slurm}}\n",
        "kubernetes: {image: x, claim: y, root: ROOT, secrets: [wandb]}\n"
        "work: {corpus: {engine: kubernetes}}\n",
    ],
    ids=["slurm", "kubernetes"],
)
def test_no_key_is_in_a_script_or_manifest(
    site: str, toy_root: Path, tmp_path: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(site.replace("ROOT", str(toy_root)))
    monkeypatch.setenv("OLMO_SITE", str(path))
    done = subprocess.run([sys.executable, "-c", SUBMIT], capture_output=True, check=True)
    assert b"olmo_core.supervisor.supervise" in done.stdout or b"kind: Job" in done.stdout
    for key in keys:
        assert key.encode() not in done.stdout + done.stderr


def test_the_ui_listens_on_loopback_unless_told() -> None:
    shown = subprocess.run(
        [Path(sys.executable).with_name("olmo"), "ui", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "127.0.0.1" in shown.stdout
    command = ui_command("127.0.0.1", 3000)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    command = ui_command("0.0.0.0", 3000)
    assert command[command.index("--host") + 1] == "0.0.0.0"


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """The syntax trees of all code but the tests' and the benchmarks'."""
    for package in ("assets", "environments", "olmo_core", "pipelines"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


FORBIDDEN = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "dill.load",
    "dill.loads",
    "cloudpickle.load",
    "cloudpickle.loads",
    "joblib.load",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "FileSystemReader",  # torch's own unpickles a checkpoint's index: checkpoint/index.py
    "torch.hub.load",
    "shutil.unpack_archive",
    "tempfile.mktemp",
}
FORBIDDEN_METHODS = {"extract", "extractall"}  # of archives: paths that lead out of the folder


def wrongs(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls that run what data say, or could."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        words = {word.arg: word.value for word in node.keywords}
        true = {key for key, value in words.items() if getattr(value, "value", None) is True}
        if name in FORBIDDEN or name.rpartition(".")[2] in FORBIDDEN_METHODS:
            yield node.lineno, name
        if name == "torch.load" and "weights_only" not in true:
            yield node.lineno, "torch.load without weights_only=True"
        for word in ("shell", "allow_pickle", "trust_remote_code"):
            if word in true:
                yield node.lineno, f"{name} with {word}=True"


def test_nothing_runs_what_data_say() -> None:
    found = [
        f"{path.relative_to(CHECKOUT)}:{line}: {what}"
        for path, tree in sources()
        for line, what in wrongs(tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "subprocess.run('x', shell=True)",
        "np.load(f, allow_pickle=True)",
        "archive.extractall()",
        "eval(x)",
        "yaml.load(f, Loader=yaml.Loader)",
        "FileSystemReader(path).read_metadata()",
    ],
)
def test_the_walk_finds_what_it_looks_for(code: str) -> None:
    assert list(wrongs(ast.parse(code)))


def test_unpicklers_look_up_only_what_they_list() -> None:
    """A class derived from an unpickler says itself what may be looked up."""
    derived = [
        (path.name, node)
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(dotted, node.bases)
    ]
    assert {name for name, _ in derived} == {"unpickler.py"}
    for _, node in derived:
        methods = [entry.name for entry in node.body if isinstance(entry, ast.FunctionDef)]
        assert "find_class" in methods
