"""Fingerprints: what changes them, what does not, and that a difference can be named."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from assets.fingerprint import Fingerprint, differences, fingerprint, package_version
from olmo_core.run import code as module
from olmo_core.run.code import code_digest, code_hashes, sources

SOURCE = '''"""Doc."""
from olmo_core.toy import helper


def f(x):
    """Says f."""
    return helper.g(x)  # a comment
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    toy = tmp_path / "olmo_core" / "toy"
    toy.mkdir(parents=True)
    (tmp_path / "olmo_core" / "job.py").write_text(SOURCE)
    (toy / "helper.py").write_text("import os\n\n\ndef g(x):\n    return x\n")
    monkeypatch.setattr(module, "PACKAGE_ROOT", tmp_path)
    return tmp_path / "olmo_core"


def hashes() -> dict[str, str]:
    sources.cache_clear()
    return code_hashes("olmo_core.job")


def test_the_code_of_a_job_is_its_module_and_all_that_it_imports(package: Path) -> None:
    assert set(hashes()) == {"olmo_core.job", "olmo_core.toy.helper"}


def test_comments_docstrings_and_layout_change_nothing(package: Path) -> None:
    before = hashes()
    text = SOURCE.replace("Says f.", "Says g.").replace("  # a comment", "").replace("Doc.", "D")
    (package / "job.py").write_text("\n" + text)
    assert hashes() == before


def test_code_changes_are_seen_through_imports(package: Path) -> None:
    before = hashes()
    (package / "toy" / "helper.py").write_text("def g(x):\n    return x + 1\n")
    after = hashes()
    assert after["olmo_core.job"] == before["olmo_core.job"]
    assert after["olmo_core.toy.helper"] != before["olmo_core.toy.helper"]


def test_one_digest_stands_for_the_code_of_several_modules(package: Path) -> None:
    hashes()
    both = code_digest("olmo_core.job", "olmo_core.toy.helper")
    assert both == code_digest("olmo_core.job") != code_digest("olmo_core.toy.helper")
    (package / "toy" / "helper.py").write_text("def g(x):\n    return x + 1\n")
    hashes()
    assert code_digest("olmo_core.job") != both


def make(config: dict[str, object], **inputs: Fingerprint) -> Fingerprint:
    return fingerprint(module="olmo_core.corpus", config=config, packages=("numpy",), inputs=inputs)


def test_configuration_and_inputs_are_identity_and_their_order_is_not() -> None:
    one = make({"a": 1, "b": {"c": 2.0}})
    assert one.value == make({"b": {"c": 2.0}, "a": 1}).value
    assert one.value != make({"a": 1, "b": {"c": 2.5}}).value
    parent = make({"limit": 1})
    child = make({"a": 1}, parent=parent)
    assert child.value != make({"a": 1}, parent=make({"limit": 2})).value
    assert child.version == child.value[:12]


def test_a_difference_is_named() -> None:
    before = make({"a": 1, "tasks": [1]}, x=make({"l": 1}))
    after = make({"a": 2, "tasks": [1]}, x=make({"l": 2}))
    assert differences(before.record(), after.record()) == {
        "config.a": "config a: 1 → 2",
        "inputs.x": "input x changed",
    }
    longer = make({"a": 1, "tasks": [1, {"limit": 3}]}, x=make({"l": 1}))
    said = differences(before.record(), longer.record())
    assert said == {"config.tasks[1].limit": "config tasks[1].limit: absent → 3"}


def test_where_it_ran_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = make({"a": 1}).value
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert make({"a": 1}).value == before


def test_a_machine_that_only_orchestrates_takes_the_locked_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = package_version("torch")
    monkeypatch.setattr("importlib.metadata.version", _missing)
    package_version.cache_clear()
    try:
        assert package_version("torch") == installed
        with pytest.raises(PackageNotFoundError):
            package_version("no-such-package")
    finally:
        package_version.cache_clear()


def _missing(name: str) -> str:
    raise PackageNotFoundError(name)


def record(package: Path) -> dict[str, object]:
    sources.cache_clear()
    one = fingerprint(module="olmo_core.job", config={}, packages=(), inputs={})
    return one.record()


def test_a_definition_that_only_moved_is_said_to_have(package: Path) -> None:
    before = record(package)
    (package / "toy" / "other.py").write_text((package / "toy" / "helper.py").read_text())
    (package / "toy" / "helper.py").write_text("import os\n\nfrom olmo_core.toy.other import g\n")
    found = differences(before, record(package))
    assert found["code.olmo_core.toy.helper"] == (
        "code olmo_core.toy.helper: function g moved to olmo_core.toy.other, imports changed"
    )
    assert found["code.olmo_core.toy.other"] == (
        "code olmo_core.toy.other: counts now, function g moved from olmo_core.toy.helper"
    )


def test_a_definition_that_moved_and_changed_has_not_only_moved(package: Path) -> None:
    before = record(package)
    (package / "toy" / "other.py").write_text("def g(x):\n    return x + 1\n")
    (package / "toy" / "helper.py").write_text("import os\n\nfrom olmo_core.toy.other import g\n")
    found = differences(before, record(package))
    assert "function g removed" in found["code.olmo_core.toy.helper"]
    assert found["code.olmo_core.toy.other"] == "code olmo_core.toy.other: counts now"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"a": 1}, {"a": 1.0}, "config a: 1 → 1.0"),
        ({"a": 1}, {"a": True}, "config a: 1 → true"),
        ({}, {"a": None}, "config a: absent → null"),
        ({"a": []}, {}, "config a: [] → absent"),
        ({"a": {"b": {}}}, {"a": {"b": {"c": 1}}}, "config a.b: {} → absent"),
    ],
)
def test_whatever_changes_a_fingerprint_is_named(
    old: dict[str, object], new: dict[str, object], line: str
) -> None:
    before, after = make(old), make(new)
    assert before.value != after.value
    assert line in differences(before.record(), after.record()).values()
