"""The Makefile lists its targets and keeps bytecode from being forbidden."""

import os
import subprocess

from environments.setup import ROOT

TARGETS = ("setup", "demo", "test", "ui", "lint", "types", "imports", "check", "lock", "clean")


def make(*arguments: str) -> str:
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of the make that may run the tests
        environ.pop(name, None)
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_help_is_the_default_and_lists_every_target_with_a_line() -> None:
    listed = make()
    assert listed == make("help")
    lines = {line.split()[1]: line for line in listed.splitlines()}
    assert set(TARGETS) <= set(lines)
    assert all(len(line.split()) > 3 for line in lines.values())


def test_recipes_run_without_the_variable_that_forbids_bytecode() -> None:
    shown = make("--eval", 'show:; @echo "value=[$$PYTHONDONTWRITEBYTECODE]"', "show")
    assert shown == "value=[]\n"
