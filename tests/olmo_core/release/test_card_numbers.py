"""Which numbers a card shows, and which of them runs have recorded."""

import json
from pathlib import Path

import pytest

from olmo_core.evals.rows import ModelFacts, write_rows
from olmo_core.release.card_numbers import numbers_of, of_the_author, recorded


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("| 1,262,656 | 0.3977 | 1e-08 | -0.5 |", ["1,262,656", "0.3977", "1e-08", "-0.5"]),
        ("seeds [6198, 42], (0.9 a parameter).", ["6198", "42", "0.9"]),
        ("40 documents, 0.550 ± 0.080.", ["40", "0.550", "0.080"]),
        ("stage1-step391-tokens801K, wikitext-103, held_out/4chan/2, c4, 0.8e6T, 3.11.7", []),
        ("`model.d_model` of `3 layers`, and 4", ["4"]),
        ("```python\nmax_new_tokens=32\n```\n7", ["7"]),
        ("Stage 2: about 20 are usual", []),
        ("Versions: torch 2.13.0, dagster 1\n8", ["8"]),
    ],
)
def test_a_number_is_no_part_of_a_word(text: str, numbers: list[str]) -> None:
    assert numbers_of(text) == numbers


def test_a_number_is_recorded_exactly_or_as_its_rounding(tmp_path: Path) -> None:
    digest = "123456789012" + "ab" * 26
    result = {"a": [1234567, 0.54987, {"b": digest, "c": 1e-8}], "version": "2.0"}
    (tmp_path / "result.json").write_text(json.dumps({"schema_version": 1, **result}))
    known = recorded([tmp_path], [7])
    for shown in ("1,234,567", "0.5499", "0.55", "1e-08", "123456789012", "2.0", "7"):
        assert known.has(shown), shown
    for shown in ("1,234,568", "0.5498", "0.54", "1e-07", "123456789013", "2.1", "8"):
        assert not known.has(shown), shown
    assert known.lacks("7 of 9, and 9 of 0.55") == ["9"]
    assert known.lacks("") == []


def test_every_file_of_a_run_that_a_card_reads_counts(tmp_path: Path) -> None:
    lines = [{"attempt": 11, "event": "began", "place": {"watts_per_device": 350}}]
    (tmp_path / "attempts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (tmp_path / "launch.json").write_text(json.dumps({"schema_version": 1, "threads": 12}))
    (tmp_path / "config.yaml").write_text("optimizer: {learning_rate: 0.0015384}\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.yaml").write_text("model: {d_model: 64}\n")
    model = ModelFacts(model="m", revision=None, step=None, tokens=None, sha256=None)
    row = model.row(task="copa", metric="acc", value=0.575, n=40)
    write_rows(tmp_path / "rows.parquet", [row])
    known = recorded([tmp_path])
    assert known.lacks("11 350 12 0.0015384 64 0.5750 40 41") == ["41"]


def test_what_an_author_writes_counts_where_it_is_a_number() -> None:
    section = {"title": "Mine 3", "hardware": "8 H100 of 700 W", "tags": ["v2", "7-bit"]}
    assert list(of_the_author(section)) == [3, 8, 700]
