"""Each environment gets a Python that its packages have wheels for, or an error says what to do."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from environments.failure import SetupError
from environments.pip_settings import UvSettings
from environments.pythons import base_python, environment_python
from environments.setup import ROOT
from environments.stamp import ENVIRONMENTS, PYTHONS
from tests.environments.conftest import command

MAIN, DOLMA = ENVIRONMENTS

# Notes what it is asked; answers as uv does when it installs a Python and when it finds one.
FAKE_UV = """
echo "$UV_PYTHON_DOWNLOADS $*" >> {calls}
case "$2" in
install) {install} ;;
find) echo /managed/python3.11 ;;
esac
"""
OFFLINE = """echo 'error: Failed to install cpython-3.11.20-linux-x86_64-gnu
  cause: client error (Connect)
  cause: dns error'; exit 1"""


@pytest.fixture
def running_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.13.0")


@pytest.fixture
def only_path(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no Python be found but what the test puts into this folder."""
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    return path


def fake_uv(checkout: Path, install: str = ":") -> Path:
    script = FAKE_UV.format(calls=checkout / "calls", install=install)
    return command(checkout / ".build", "fake-uv", script)


def find_python(
    root: Path, versions: str, modules: str, *only: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "environments/find_python.sh", versions, modules, *only],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_python_behind_an_environment_is_found_and_what_it_lacks_is_said() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = find_python(ROOT, f"3.10 {version}", "ssl zlib", sys.executable)
    assert Path(found.stdout.strip()) == base_python()
    lacking = find_python(ROOT, version, "ssl not_there", sys.executable)
    assert (lacking.returncode, lacking.stdout) == (1, "")
    assert lacking.stderr.strip().endswith(f"is Python {sys.version.split()[0]} without not_there")


@pytest.mark.usefixtures("only_path")
def test_a_python_of_pyenv_is_found_though_it_is_not_on_path(
    checkout: Path, tmp_path: Path
) -> None:
    python = command(tmp_path / ".pyenv/versions/3.12.4/bin", "python", 'echo "$0"')
    assert find_python(checkout, "3.11 3.12", "ssl").stdout.strip() == str(python)


def test_the_running_python_is_taken_where_it_serves() -> None:
    assert environment_python(ROOT, MAIN, Path("no-uv"), UvSettings()) == base_python()


@pytest.mark.usefixtures("running_3_13")
def test_dolma_takes_a_3_11_or_3_12_that_is_here(checkout: Path, only_path: Path) -> None:
    command(only_path, "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    command(only_path, "python3.12", f"echo {only_path}/python3.12")
    chosen = environment_python(checkout, DOLMA, fake_uv(checkout), UvSettings())
    assert chosen == only_path / "python3.12"
    assert not (checkout / "calls").exists()


@pytest.mark.usefixtures("running_3_13", "only_path")
def test_uv_installs_one_where_none_is_here(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("UV_PYTHON_DOWNLOADS", raising=False)
    chosen = environment_python(checkout, DOLMA, fake_uv(checkout), UvSettings())
    assert chosen == Path("/managed/python3.11")
    assert (checkout / "calls").read_text().splitlines() == [
        "manual python install --no-bin 3.11",
        "manual python find --managed-python 3.11",
    ]
    assert "dolma: needs Python 3.11, which uv installs as none is here" in capsys.readouterr().out


@pytest.mark.usefixtures("running_3_13")
def test_none_here_and_no_network_says_what_is_missing_and_what_to_do(
    checkout: Path, only_path: Path
) -> None:
    command(only_path, "python3", "echo 'is Python 3.13.5' >&2; exit 1")
    with pytest.raises(SetupError) as error:
        environment_python(checkout, DOLMA, fake_uv(checkout, OFFLINE), UvSettings())
    message = str(error.value)
    assert message.startswith("the dolma environment needs Python 3.11 or 3.12")
    assert f"{only_path}/python3: is Python 3.13.5" in message
    assert "uv could not install one: its download server does not answer" in message
    assert "UV_PYTHON_INSTALL_MIRROR" in message
    assert "dolma-python.log" in message


@pytest.mark.usefixtures("running_3_13", "only_path")
def test_a_machine_that_forbids_uvs_downloads_is_obeyed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    environment_python(checkout, DOLMA, fake_uv(checkout), UvSettings())
    assert (checkout / "calls").read_text().startswith("never python install")


def test_pyproject_and_setup_sh_name_the_same_pythons() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest, newest = PYTHONS[0], PYTHONS[-1]
    after = f"3.{int(newest.partition('.')[2]) + 1}"
    assert pyproject["project"]["requires-python"] == f">={oldest},<{after}"
    assert pyproject["tool"]["pyright"]["pythonVersion"] == oldest
    assert pyproject["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    shell = (ROOT / "environments/setup.sh").read_text()
    assert re.findall(r"^versions='(.*)'$", shell, re.MULTILINE) == [" ".join(PYTHONS)]
    assert f"no Python {oldest} to {newest} that works" in shell
