"""Environments are made by uv in order, stamped last, and from the cache when offline."""

import sys
from pathlib import Path

import pytest

from environments.failure import SetupError
from environments.install import Installer, make_all
from environments.pip_settings import UvSettings
from environments.stamp import ENVIRONMENTS, digest, outdated, read_stamp, remove_stamp

MAIN, DOLMA = ENVIRONMENTS
PYTHON = Path(sys.executable)

# Notes what it is asked; `venv` leaves a Python that works, as uv would.
FAKE_UV = """#!/bin/sh
echo "$*" >> {calls}
if [ "$1" = venv ]; then
    mkdir -p "$5/bin"
    ln -sf {python} "$5/bin/python"
fi
{then}
"""


def installer(checkout: Path, then: str = "") -> Installer:
    (checkout / ".build").mkdir(exist_ok=True)
    uv = checkout / ".build/fake-uv"
    uv.write_text(FAKE_UV.format(calls=checkout / "calls", python=sys.executable, then=then))
    uv.chmod(0o755)
    settings = UvSettings(options=("--find-links", "/srv/wheels"))
    return Installer(root=checkout, uv=uv, settings=settings)


def calls(checkout: Path) -> list[str]:
    lines = (checkout / "calls").read_text().splitlines()
    (checkout / "calls").unlink()
    return lines


def test_made_from_nothing_then_updated_in_place_then_left_alone(checkout: Path) -> None:
    install = installer(checkout)
    install.make(MAIN, PYTHON)
    venv, locked, alone, project = calls(checkout)
    assert venv.startswith("venv --clear --python")
    assert "--exact -r environments/main.txt --find-links /srv/wheels" in locked
    assert "--no-deps -r environments/eval-data.txt" in alone
    assert project.endswith("--no-deps --no-build-isolation --offline --editable .")
    assert all("--compile-bytecode" in each for each in (locked, alone, project))
    assert outdated(checkout) == [DOLMA]

    lock = checkout / MAIN.lock
    lock.write_text(lock.read_text() + "another==1.0\n")
    assert outdated(checkout) == [MAIN, DOLMA]
    install.make(MAIN, PYTHON)
    assert not any(call.startswith("venv") for call in calls(checkout))
    assert read_stamp(checkout, MAIN) == digest(checkout, MAIN)


def test_an_interrupted_environment_is_made_anew(checkout: Path) -> None:
    install = installer(checkout)
    install.make(DOLMA, PYTHON)
    remove_stamp(checkout, DOLMA)
    calls(checkout)
    install.make(DOLMA, PYTHON)
    assert calls(checkout)[0].startswith("venv --clear")


def test_another_python_makes_the_environment_anew(checkout: Path) -> None:
    install = installer(checkout)
    install.make(DOLMA, PYTHON)
    calls(checkout)
    another = checkout / "another"
    another.write_text("#!/bin/sh\necho '3.12.99 (main)'\n")
    another.chmod(0o755)
    install.make(DOLMA, another)
    assert calls(checkout)[0] == f"venv --clear --python {another} {checkout / DOLMA.folder}"


def test_a_failed_command_leaves_no_stamp_and_keeps_what_was_printed(checkout: Path) -> None:
    install = installer(
        checkout, 'case "$*" in *--exact*) echo "there is no version of six==99.1"; exit 1;; esac'
    )
    with pytest.raises(SetupError, match=r"cannot install six==99\.1"):
        make_all(install, {MAIN: PYTHON, DOLMA: PYTHON})
    assert outdated(checkout) == [MAIN, DOLMA]
    assert "no version of six" in (checkout / ".build/main.log").read_text()


def test_without_network_the_cache_is_tried(checkout: Path) -> None:
    offline = 'case "$*" in venv*|*--offline*) ;; *) echo "cause: dns error"; exit 2;; esac'
    installer(checkout, offline).make(DOLMA, PYTHON)
    _, asked, cached = calls(checkout)
    assert cached == f"{asked} --offline"
    assert outdated(checkout) == [MAIN]
