"""Files that are whole or not there, also after a power cut."""

from pathlib import Path

import pytest

from olmo_core import files


def test_the_names_of_linked_files_are_flushed_before_their_folder_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk surely holds are the entries that a flushed folder had then."""
    there = tmp_path / "there"
    there.write_text("text")
    flushed: dict[str, set[str]] = {}

    def fsync(path: Path) -> None:
        flushed[path.relative_to(tmp_path).as_posix()] = {each.name for each in path.iterdir()}

    monkeypatch.setattr(files, "fsync", fsync)
    files.link_files(tmp_path / "out", {"a/1": there, "a/2": there, "b/1": there})
    assert flushed == {
        "out.partial": {"a", "b"},
        "out.partial/a": {"1", "2"},
        "out.partial/b": {"1"},
        ".": {"there", "out"},
    }
