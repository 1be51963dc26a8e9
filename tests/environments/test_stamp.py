"""An environment counts as whole only by a stamp that agrees with all it is made from."""

from pathlib import Path

import pytest

from environments.stamp import (
    ENVIRONMENTS,
    PEER,
    digest,
    outdated,
    read_stamp,
    remove_stamp,
    write_stamp,
)

MAIN, DOLMA = ENVIRONMENTS


def pretend_made(root: Path) -> None:
    for environment in ENVIRONMENTS:
        python = root / environment.folder / "bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        write_stamp(root, environment, digest(root, environment))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_nothing_is_outdated_right_after_the_stamps(checkout: Path) -> None:
    assert outdated(checkout) == [MAIN, DOLMA]
    pretend_made(checkout)
    assert outdated(checkout) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("environments/main.txt", "six==1.17.0\n", [MAIN]),
        ("environments/dolma.txt", "six==1.17.0\n", [DOLMA]),
        ("environments/eval-data.txt", "# changed\n", [MAIN]),
        ("environments/install.py", "# changed\n", [MAIN, DOLMA]),
        ("pyproject.toml", "\n[tool.other]\nkey = 1\n", []),
    ],
)
def test_a_changed_file_outdates_what_is_made_from_it(
    checkout: Path, file: str, text: str, expected: list[object]
) -> None:
    pretend_made(checkout)
    append(checkout / file, text)
    assert outdated(checkout) == expected


def test_a_new_dependency_or_script_outdates_the_main_environment(checkout: Path) -> None:
    pretend_made(checkout)
    pyproject = checkout / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('olmo = "', 'olmo2 = "'))
    assert outdated(checkout) == [MAIN]


def test_another_python_outdates_both(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_made(checkout)
    monkeypatch.setattr("platform.python_version", lambda: "3.12.99")
    assert outdated(checkout) == [MAIN, DOLMA]


def test_a_python_that_dolma_cannot_take_leaves_its_environment_with_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.13.0")
    pretend_made(checkout)
    assert outdated(checkout) == []
    monkeypatch.setattr("platform.python_version", lambda: "3.14.2")
    assert outdated(checkout) == [MAIN]


def test_a_moved_checkout_outdates_both(checkout: Path) -> None:
    pretend_made(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    assert outdated(moved) == [MAIN, DOLMA]


def test_an_environment_without_stamp_or_python_is_not_whole(checkout: Path) -> None:
    pretend_made(checkout)
    remove_stamp(checkout, MAIN)
    (checkout / DOLMA.folder / "bin/python").unlink()
    assert read_stamp(checkout, MAIN) is None
    assert read_stamp(checkout, DOLMA) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_stamp_counts_as_none(checkout: Path, content: str) -> None:
    pretend_made(checkout)
    (checkout / MAIN.folder / "olmo-set-up.json").write_text(content)
    assert read_stamp(checkout, MAIN) is None


def test_the_benchmarks_environment_is_made_only_when_asked_for(checkout: Path) -> None:
    (checkout / PEER.lock).write_text("ai2-olmo-core==3.0.0\n")
    assert PEER not in outdated(checkout)
    assert outdated(checkout, [PEER]) == [PEER]


def test_an_environment_that_is_another_checkouts_is_left_alone(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / MAIN.folder).symlink_to(tmp_path)
    assert outdated(checkout) == [DOLMA]
