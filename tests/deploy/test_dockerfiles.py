"""The image recipes copy what is there, pin what they install and bring a Python that serves.

No image is built here: there is no container engine. What each RUN does is another matter.
"""

import re
import subprocess
from pathlib import Path

import pytest

from environments.setup import ROOT
from environments.stamp import ENVIRONMENTS

RECIPES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)


def instructions(recipe: Path, name: str) -> list[str]:
    """Return the arguments of every instruction of that name, continued lines joined."""
    lines = [line for line in recipe.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def admitted() -> list[str]:
    """Return the names at the checkout's root that .dockerignore lets into an image."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_there_are_recipes() -> None:
    assert [recipe.stem for recipe in RECIPES] == ["all-in-one", "core", "orchestrator"]


@each_recipe
def test_whatever_is_copied_is_there_and_reaches_the_builder(recipe: Path) -> None:
    for copy in instructions(recipe, "COPY"):
        *sources, _ = [part for part in copy.split() if not part.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source == "." or source.split("/")[0] in admitted(), source


def test_an_image_gets_what_git_tracks_and_nothing_else() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    tracked = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert set(admitted()) == tracked | {".git"}


@each_recipe
def test_its_python_serves_every_environment(recipe: Path) -> None:
    (base,) = instructions(recipe, "FROM")
    image, _, tag = base.partition(":")
    assert image == "python"
    version = tag.partition("-")[0]
    assert all(version in environment.pythons for environment in ENVIRONMENTS)


@pytest.mark.parametrize("name", ["core", "orchestrator"])
def test_every_package_that_pip_installs_is_locked(name: str) -> None:
    locked = (ROOT / "environments/main.txt").read_text()
    runs = instructions(ROOT / f"deploy/{name}.Dockerfile", "RUN")
    (install,) = [run for run in runs if run.startswith("pip install")]
    assert "--constraint environments/main.txt" in install
    packages = re.findall(r"(?<= )[a-z][a-z-]*(?= |$)", install.partition("main.txt")[2])
    assert "numpy" in packages
    assert [package for package in packages if f"\n{package}==" not in locked] == []


@pytest.mark.parametrize(("name", "without"), [("core", set()), ("orchestrator", {"torch"})])
def test_it_has_all_that_olmo_core_needs(name: str, without: set[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    alone = project.partition("# olmo_core: a cluster image needs these alone")[2]
    needed = re.findall(r'^    "([a-z][a-z0-9-]*)', alone.partition("    #")[0], re.MULTILINE)
    assert "numpy" in needed
    runs = instructions(ROOT / f"deploy/{name}.Dockerfile", "RUN")
    (install,) = [run for run in runs if run.startswith("pip install")]
    assert set(needed) - without <= set(install.split())


@each_recipe
def test_what_it_runs_is_shell(recipe: Path) -> None:
    for run in instructions(recipe, "RUN"):
        subprocess.run(["sh", "-n", "-c", run], check=True)
