"""Data of tasks is built once, and again where what was built is not whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from olmo_core.config.evals import TaskConfig
from olmo_core.evals.task_data import build_task

COPA = TaskConfig(name="copa")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no rows": ("rows.parquet", Path.unlink),
    "truncated rows": ("rows.parquet", truncate),
    "truncated facts": ("data.json", truncate),
    "facts of another kind": ("data.json", lambda path: path.write_text("[]")),
    "other facts": ("data.json", lambda path: path.write_text("{}")),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=[*DAMAGES])
def test_a_damaged_split_is_built_again(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], object],
) -> None:
    data = build_task(COPA, tmp_path)
    [path] = tmp_path.rglob(name)
    written = path.read_bytes()
    damage(path)
    assert build_task(COPA, tmp_path) == data
    assert path.read_bytes() == written
    assert str(path) in caplog.text
    assert "built again" in caplog.text


def test_a_whole_split_is_not_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = build_task(COPA, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert build_task(COPA, tmp_path) == data
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before
    assert not caplog.text
