"""Revision names, and the hub's layout."""

from pathlib import Path

import pytest

from olmo_core.release.hub import link_revisions, revision_name, token_label


@pytest.mark.parametrize(
    ("tokens", "label"),
    [
        (1_907_359 * 2_097_152, "4001B"),  # OLMo 2 1B, stage 1
        (23_852 * 2_097_152, "51B"),  # and one of its ingredients
        (596_057 * 8_388_608, "5001B"),  # 13B
        (2_000_000, "2M"),
        (1_310_720, "2M"),
        (65_536, "66K"),
        (999, "999"),
    ],
)
def test_tokens_are_rounded_up_in_their_unit(tokens: int, label: str) -> None:
    assert token_label(tokens) == label


def test_revisions_are_named_as_ai2_names_them() -> None:
    assert revision_name("stage1", 1_907_359, 4_000_020_000_000) == (
        "stage1-step1907359-tokens4001B"
    )
    assert revision_name("stage2_ingredient3", 23_852, 50_021_000_000) == (
        "stage2-ingredient3-step23852-tokens51B"
    )
    assert revision_name("soup", 23_852, None, final=True) == "main"
    assert revision_name("stage1", 10, 640, final=True) == "main"


def test_files_are_linked_not_copied(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    hub = tmp_path / "hub"
    link_revisions(hub, "someone/tiny", {"main": tmp_path / "one", "old": tmp_path / "two"})
    home = hub / "models--someone--tiny"
    commit = (home / "refs" / "main").read_text()
    assert len(commit) == 40
    linked = home / "snapshots" / commit / "config.json"
    assert linked.samefile(tmp_path / "one" / "config.json")
    assert (home / "refs" / "old").read_text() != commit
