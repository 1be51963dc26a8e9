"""Set-up finds a Python that works, does nothing twice, and says clearly what is missing."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from environments import setup
from environments.failure import SetupError
from environments.install import run_logged
from environments.stamp import ENVIRONMENTS, digest, write_stamp
from tests.environments.conftest import command


def set_up_with_path(
    checkout: Path, path: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run setup.sh where nothing but the commands in `path` is found."""
    return subprocess.run(
        ["/bin/sh", str(checkout / "environments/setup.sh")],
        env={"PATH": str(path), "HOME": str(checkout), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_python_at_all(checkout: Path, path: Path) -> None:
    done = set_up_with_path(checkout, path)
    assert done.returncode == 1
    assert "no Python 3.11 to 3.14 that works was found" in done.stderr
    assert "none at all" in done.stderr


def test_wrong_pythons_are_named_with_what_is_wrong(checkout: Path, path: Path) -> None:
    command(path, "python3", "echo 'is Python 3.10.13' >&2; exit 1")
    command(path, "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    done = set_up_with_path(checkout, path)
    assert done.returncode == 1
    assert f"{path}/python3: is Python 3.10.13" in done.stderr
    assert f"{path}/python3.12: pyenv: python3.12: command not found" in done.stderr
    assert "make setup PYTHON=" in done.stderr


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (("3", "3.14"), "3.14"),
        (("3", "3.13", "3.14"), "3.13"),
        (("3", "3.11", "3.12", "3.13", "3.14"), "3.11"),
        (("3",), "3"),
    ],
)
def test_the_oldest_is_taken_and_a_shim_that_fails_is_passed_over(
    checkout: Path, path: Path, there: tuple[str, ...], chosen: str
) -> None:
    for version in ("3.11", "3.12", "3.13", "3.14"):
        command(path, f"python{version}", "exit 127")
    for version in there:
        # As a Python does, it answers the check with its own path.
        command(path, f"python{version}", f'[ "$1" = -c ] && echo "$0" || echo "{version}: $*"')
    assert set_up_with_path(checkout, path).stdout == f"{chosen}: -m environments.setup\n"


def test_a_python_named_by_the_user_is_the_only_candidate(checkout: Path, path: Path) -> None:
    command(path, "python3.11", "exit 0")
    command(path, "mine", "echo 'is Python 3.9.2' >&2; exit 1")
    done = set_up_with_path(checkout, path, PYTHON=str(path / "mine"))
    assert done.returncode == 1
    assert "mine: is Python 3.9.2" in done.stderr
    assert "python3.11:" not in done.stderr


def test_a_python_named_by_the_user_that_is_not_there_is_said(checkout: Path, path: Path) -> None:
    done = set_up_with_path(checkout, path, PYTHON="~/python3.13")
    assert done.returncode == 1
    assert "  ~/python3.13: not there\n" in done.stderr


def test_the_python_that_runs_the_tests_passes_the_check(checkout: Path) -> None:
    for environment in ENVIRONMENTS:
        python = checkout / environment.folder / "bin/python"
        python.parent.mkdir(parents=True)
        python.touch()
        write_stamp(checkout, environment, digest(checkout, environment))
    started = time.monotonic()
    done = subprocess.run(
        ["/bin/sh", str(checkout / "environments/setup.sh")],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 5  # a tenth of a second on a quiet machine


def test_too_little_disk_says_how_much_there_is_and_is_needed(tmp_path: Path) -> None:
    with pytest.raises(
        SetupError, match=r"not enough disk: .* GB free, set-up needs about"
    ) as error:
        setup.check_disk(tmp_path / "not/there/yet", 10**18)
    assert "1000000000.0 GB" in str(error.value)
    setup.check_disk(tmp_path, 1)


def test_a_checkout_that_cannot_be_written_is_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SetupError, match=r"cannot write in .*: Permission denied"):
        setup.set_up(checkout)


def test_an_error_is_printed_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise SetupError("cannot get torch")

    monkeypatch.setattr(setup, "outdated", lambda *_: [object()])
    monkeypatch.setattr(setup, "set_up", fail)
    assert setup.main([]) == 1
    assert capsys.readouterr().err == "set-up failed: cannot get torch\n"


def test_the_second_of_two_waits_and_finds_nothing_left_to_do(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "outdated", lambda *_: [])
    monkeypatch.setattr(setup, "install_uv", lambda *_: pytest.fail("set up twice"))
    with setup.exclusive(checkout):
        second = threading.Thread(target=setup.set_up, args=(checkout,))
        second.start()
        second.join(timeout=0.3)
        assert second.is_alive()
    second.join(timeout=10)
    assert not second.is_alive()
    assert "Another set-up of this checkout is at work" in capsys.readouterr().out


def test_a_child_that_outlives_its_set_up_keeps_the_lock(checkout: Path) -> None:
    script = (
        "import subprocess; from pathlib import Path; from environments import setup\n"
        f"with setup.exclusive(Path({str(checkout)!r})):\n"
        "    subprocess.Popen(['sleep', '1'], close_fds=False)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=setup.ROOT, check=True)
    with (checkout / ".build/set-up.lock").open("a") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX)  # given up when the child ends


def test_children_may_write_bytecode_and_never_fetch_a_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    log = tmp_path / "env.log"
    status, output = run_logged(["env"], tmp_path, log, {"EXTRA": "yes"})
    assert status == 0
    assert "PYTHONDONTWRITEBYTECODE" not in output
    assert "UV_PYTHON_DOWNLOADS=never" in output
    assert "EXTRA=yes" in output
    assert log.read_text() == output
