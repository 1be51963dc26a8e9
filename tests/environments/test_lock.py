"""The locks hold exact versions of all that the project asks for, and nothing of any machine."""

import re
import tomllib
from pathlib import Path

import pytest

from environments.lock import LOCKS, pins_of
from environments.setup import ROOT

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.!]*")
REQUIREMENTS = (*LOCKS, "environments/eval-data.txt", "environments/uv.txt")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_every_line_is_an_exact_public_version(file: str) -> None:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    assert lines
    # No address, hash, marker or local label such as +cpu passes this.
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert len(pins(file)) == len(lines)


def test_every_dependency_is_locked() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *pyproject["project"]["dependencies"],
        *pyproject["dependency-groups"]["dev"],
        *pyproject["build-system"]["requires"],  # the project is installed without network
    ]
    names = {normal(re.split(r"[\[<>=!~ ]", requirement)[0]) for requirement in wanted}
    assert sorted(names - set(pins("environments/main.txt"))) == []
    assert "dolma" in pins("environments/dolma.txt")


def test_the_pinned_inputs_are_in_the_locks() -> None:
    assert pins("environments/main.txt")["torch"] == "2.13.0"
    for folder in ("main", "dolma", "peer"):
        wanted = pins(f"environments/{folder}.in")
        assert wanted.items() <= pins(f"environments/{folder}.txt").items()


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_hold_none_of_torchs_cuda_packages(lock: str) -> None:
    names = pins(lock)
    assert [
        name for name in names if name.startswith(("nvidia-", "cuda-")) or name == "triton"
    ] == []


def test_labels_comments_and_cuda_packages_are_cut_from_a_resolution() -> None:
    resolution = "\n".join(
        [
            "# header",
            "nvidia-nccl-cu13==2.29.7",
            "torch==2.13.0+cpu",
            "    # via x",
            "triton==3.7.1",
        ]
    )
    assert pins_of(resolution) == ["torch==2.13.0"]


def test_nothing_of_set_up_names_an_index_or_a_machine() -> None:
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci/run"]
    files += [path for path in (ROOT / "environments").iterdir() if path.is_file()]
    named = re.compile(r"://|/(opt|root|home|work)/")
    assert [path.name for path in files if named.search(Path(path).read_text())] == []
