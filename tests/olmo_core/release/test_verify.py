"""What is published is what was made: files, logits and every line of the card."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.config.load import to_dict
from olmo_core.config.release import ExportConfig
from olmo_core.errors import InputError
from olmo_core.evals.rows import exported_models, write_rows
from olmo_core.release import card_training, model_card, verify
from olmo_core.release.card_facts import Facts
from tests.olmo_core.conftest import finished, run_in

TRAINED = ("stage1", "stage2_ingredient1", "stage2_ingredient2", "soup")


@pytest.fixture
def export(family: Any, tmp_path: Path) -> Path:
    """A copy of the family's export, with the file that it was made by, and a card beside it."""
    folder = tmp_path / "recipe" / "export" / "0"
    shutil.copytree(family.runs["export"], folder)
    section = ExportConfig(
        repository="someone/tiny",
        parity_sequence_length=48,
        sample_prompts=("A language",),
        sample_tokens=4,
    )
    runs = {name: family.runs[name] for name in (*TRAINED, "tokenizer")}
    write_config(folder, section, runs)
    leaderboard = tmp_path / "recipe" / "leaderboard" / "0"
    leaderboard.mkdir(parents=True)
    rows = [
        model.row(task="copa", metric="acc", value=0.5, n=4) for model in exported_models(folder)
    ]
    write_rows(leaderboard / "rows.parquet", rows)
    (leaderboard / "leaderboard.md").write_text("| model |\n| --- |\n")
    finished(leaderboard, {})
    names = (*TRAINED, "tokens", "stage1_mix")
    inputs = {name: family.runs[name] for name in names}
    inputs |= {"export": folder, "leaderboard": leaderboard}
    card = tmp_path / "recipe" / "model_card" / "0"
    config = model_card.CardConfig(title="Tiny")
    write_config(card, config, inputs)
    run_in(card, model_card.make, config, inputs)
    return folder


def write_config(folder: Path, section: Any, inputs: dict[str, Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "config": to_dict(section),
        "inputs": {name: str(path) for name, path in inputs.items()},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_all_in_order(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify.main([str(export)])
    said = capsys.readouterr().out
    assert "files are as they were written" in said
    assert said.count("parity: ") == len(TRAINED)
    assert re.search(r"README\.md is what the runs say; its \d\d+ numbers are theirs", said)


@pytest.mark.parametrize("damage", ["changed", "gone", "more"])
def test_a_file_that_is_not_as_it_was_written_is_named(
    damage: str, export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export / "exports" / "soup" / "generation_config.json"
    if damage == "changed":
        before = path.stat()
        path.write_bytes(path.read_bytes().replace(b"0", b"1"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # no time tells
    elif damage == "gone":
        path.unlink()
    else:
        path = path.with_name("more.json")
        path.write_text("{}")
    with pytest.raises(SystemExit) as ended:
        verify.main([str(export)])
    assert ended.value.code == 3
    assert f"{path}: " in capsys.readouterr().err


def test_another_model_than_was_exported_is_found(export: Path) -> None:
    written = yaml.safe_load((export / "config.yaml").read_text())
    written["inputs"]["stage1"] = written["inputs"]["stage2_ingredient1"]
    (export / "config.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    with pytest.raises(InputError, match="stage1: transformers' logits differ"):
        list(verify.check_parity(export))


def test_a_figure_that_no_run_says_is_found(export: Path) -> None:
    [card] = verify.cards_of(export)
    text = (card / "README.md").read_text()
    assert "7,680,000" in text
    (card / "README.md").write_text(text.replace("| 7,680,000 |", "| 9,999,999 |"))
    with pytest.raises(InputError, match=r"(?s)not what the runs say.*-.*7,680,000.*\+.*9,999,999"):
        verify.check_card(card)


def test_a_figure_that_the_card_s_own_code_invents_is_found(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [card] = verify.cards_of(export)
    written = card_training.models

    def invented(facts: Facts) -> list[str]:
        return [text.replace("| 7,680,000 |", "| 7,680,001 |") for text in written(facts)]

    monkeypatch.setattr(card_training, "models", invented)
    path = card / "README.md"
    path.write_text(path.read_text().replace("| 7,680,000 |", "| 7,680,001 |"))
    with pytest.raises(InputError, match=r"README\.md: no run has these numbers: 7,680,001$"):
        verify.check_card(card)


def test_the_cards_that_are_named_are_compared_and_no_others(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another recipe that has the same export has a card of its own."""
    [beside] = verify.cards_of(export)
    other = shutil.copytree(beside, tmp_path / "other" / "model_card" / "0")
    (beside / "README.md").write_text("That of the other recipe, and wrong.\n")
    verify.main([str(export), "--cards", str(other)])
    said = capsys.readouterr()
    assert f"every line of {other / 'README.md'} is what the runs say" in said.out
    assert str(beside) not in said.out
    verify.main([str(export), "--cards"])
    said = capsys.readouterr()
    assert "card: none has been made of this export" in said.err
    assert "README.md" not in said.out


def test_a_card_whose_runs_are_gone_is_named(export: Path) -> None:
    [card] = verify.cards_of(export)
    shutil.rmtree(export.parents[1] / "leaderboard")
    with pytest.raises(
        InputError, match=r"leaderboard/0: no finished run is there; .*README\.md cannot"
    ):
        verify.check_card(card)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        verify.check_digests(tmp_path)
