"""Copies of earlier corpora, worked out by hand, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.duplicates.deduplicated import DeduplicatedConfig
from olmo_core.corpus.duplicates.earlier import EarlierCorpora, earlier_identity
from olmo_core.errors import ConfigError, InputError
from tests.olmo_core.corpus.duplicates.earlier_documents import (
    LONG,
    NOTHING_HELD_OUT,
    marks,
    row,
    run,
    words,
    write_packed,
    write_raw,
)


def test_marks_are_those_worked_out_by_hand(corpus: Any, tmp_path: Path) -> None:
    page, other = "https://example.org/page", "https://example.org/other"
    old, older = tmp_path / "old", tmp_path / "older"
    write_packed(
        old / "documents/a/0.jsonl.zst",
        [row("a/same", words(1), page), row("bare", words(2)), row("x/lone", LONG.format(1))],
    )
    # As Dolma has them: ids without the source, and attributes beside the documents.
    write_packed(old / "attributes/tags/a/0.jsonl.gz", [{"id": "a/same", "attributes": {}}])
    write_packed(older / "deep/0.json.gz", [row("a/twice", words(3)), row("b/twice", words(3))])
    (older / "README").write_text("Not a document.")
    write_raw(
        corpus,
        {
            "documents/a/part-00000": [
                row("a/same", words(4), page),  # the same id and URL, another text
                row("a/bare~0123456789abcdef", words(5)),
                row("a/text", words(1)),
                row("a/text-again", words(1)),
                row("a/near", words(2, changed=1)),
                row("a/own", words(6), other),
                row("a/own-copy", words(6), other),
                row("a/half", f"{LONG.format(1)}\n{LONG.format(2)}"),
            ],
            "documents/b/part-00000": [
                row("b/bare", words(7), source="b"),  # another source's id
                row("b/near", words(3, changed=1), source="b"),
            ],
        },
    )
    reports = run(corpus, old, older)
    half = round((len(LONG.format(1)) + 1) / len(f"{LONG.format(1)}\n{LONG.format(2)}"), 6)
    assert marks(corpus) == {
        "a/same": ({"url", "id", "earlier"}, 0),
        "a/bare~0123456789abcdef": ({"id", "earlier"}, 0),
        "a/text": ({"text", "near", "earlier"}, 1),
        "a/text-again": ({"text", "near", "earlier"}, 1),
        "a/near": ({"near", "earlier"}, 0),
        "a/own": (set(), 0),
        "a/own-copy": ({"text", "near", "url"}, 1),
        "a/half": (set(), half),
        "b/bare": (set(), 0),
        "b/near": ({"near", "earlier"}, 0),
    }
    tables = {name: report["tables"] for name, report in reports.items()}
    figures = {each["source"]: each for each in tables["deduplicated"]["sources"]}
    assert {name: each["copies_of_earlier"] for name, each in figures.items()} == {"a": 5, "b": 1}
    assert [figures[name]["documents"] for name in "ab"] == [8, 2]
    near = {each["source"]: each["near_earlier"] for each in tables["near_duplicates"]["sources"]}
    assert near == {"a": 3, "b": 1}
    numbers = reports["near_duplicates"]["numbers"]
    assert (numbers["documents"], numbers["earlier_documents"]) == (10, 5)
    assert numbers["near_earlier"] == 4
    assert reports["deduplicated"]["numbers"]["copies_of_earlier"] == 6
    assert reports["held_out"]["numbers"]["documents"] == 10
    listed = tables["near_duplicates"]["earlier corpora"]
    assert [(each["files"], each["documents"]) for each in listed] == [(1, 3), (1, 2)]
    assert listed[0]["left_out"] == "1 attributes beside Dolma documents (files)"
    samples = reports["deduplicated"]["samples"]["copies of earlier corpora"]
    assert [sample.split("\n")[0] for sample in samples[:2]] == [
        "a/same",
        "a/bare~0123456789abcdef",
    ]


def test_a_recipe_without_earlier_corpora_says_nothing_of_them(corpus: Any) -> None:
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1)), row("a/2", words(1))]})
    reports = run(corpus)
    [_, second] = corpus.attributes("deduplicated", "duplicates").values()
    assert "duplicates__earlier" not in second
    assert second["duplicates__near"]
    for name, report in reports.items():
        assert "earlier" not in json.dumps(report), name
        assert not (corpus.folder(name) / "earlier.json").exists()


def test_rules_drop_what_an_earlier_corpus_has(corpus: Any, tmp_path: Path) -> None:
    """From raw text to what is kept: its own copies may stay where those of earlier ones go."""
    write_raw(
        corpus,
        {
            "documents/a/part-00000": [
                row("a/text", words(1)),
                row("a/near", words(2, changed=1)),
                row("a/once", words(3)),
                row("a/twice", words(3)),
                row("a/other", words(4)),
            ]
        },
    )
    write_packed(tmp_path / "old" / "0.jsonl.gz", [row("a/1", words(1)), row("a/2", words(2))])
    run(corpus, tmp_path / "old")
    corpus.run("tagged", {"taggers": {"a": ["pii_regex_with_counts_fast_v2"]}})
    seen = {"name": "seen", "attribute": "duplicates__earlier", "above": 0}
    report = corpus.run("filtered", {"rules": {"a": [seen]}, "min_kept_share": {"a": 0.5}})[
        "report"
    ]
    kept = [document["id"] for document in corpus.documents("filtered")]
    assert kept == ["a/once", "a/twice", "a/other"]
    assert (report["numbers"]["kept"], report["numbers"]["dropped"]) == (3, 2)


def test_near_copies_of_excluded_documents_leave_though_an_earlier_corpus_has_them(
    corpus: Any, tmp_path: Path
) -> None:
    write_raw(
        corpus,
        {
            "excluded/a/part-00000": [row("a/gone", words(1)), row("a/gone2", words(4))],
            "documents/a/part-00000": [
                row("a/same", words(1, changed=1)),  # the words of one of the earlier
                row("a/near", words(4, changed=2)),
                row("a/stays", words(2)),
                row("a/copy", words(3)),
            ],
        },
    )
    earlier = [words(1, changed=1), words(4, changed=3), words(3, changed=1)]
    write_packed(tmp_path / "old" / "0.jsonl", [row(f"a/{n}", e) for n, e in enumerate(earlier)])
    reports = run(corpus, tmp_path / "old")
    assert reports["held_out"]["numbers"]["near_excluded"] == 2
    assert marks(corpus) == {"a/stays": (set(), 0), "a/copy": ({"near", "earlier"}, 0)}


def test_where_a_folder_lies_is_no_part_of_its_identity(tmp_path: Path) -> None:
    write_packed(tmp_path / "old" / "a" / "0.jsonl", [row("a/1", words(1))])
    before = earlier_identity([str(tmp_path / "old")])
    shutil.move(tmp_path / "old", tmp_path / "moved")
    assert earlier_identity([str(tmp_path / "moved")]) == before
    write_packed(tmp_path / "moved" / "a" / "0.jsonl", [row("a/1", words(2))])
    assert earlier_identity([str(tmp_path / "moved")]) != before
    assert earlier_identity([]) == {"earlier": []}


def test_folders_without_documents_are_refused(corpus: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("Not JSON lines.")
    for folder in ("missing", "empty", "${NOT_SET}/x", "relative", ""):
        named = str(tmp_path / folder) if folder in ("missing", "empty") else folder
        with pytest.raises(ConfigError, match=r"near_duplicates: earlier: .* existing folder"):
            EarlierCorpora.of([named])
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1))]})
    write_packed(tmp_path / "none" / "0.jsonl.gz", [])
    with pytest.raises(InputError, match=r"earlier: '.*none': no document in 1 files"):
        run(corpus, tmp_path / "none")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"0\.jsonl:2: not valid JSON"),
        ('{"id": "a/2", "source": "a"}', r"0\.jsonl:2: key 'text' is missing"),
        ('{"id": "a/2", "text": "t"}', r"0\.jsonl:2: key 'source' is missing"),
        ('{"id": 2, "text": "t", "source": "a"}', r"0\.jsonl:2: key 'id' is a int"),
        ('{"id": "a/2", "text": " ", "source": "a"}', r"0\.jsonl:2: empty document"),
    ],
)
def test_a_line_that_is_no_document_is_named_where_it_is_read_first(
    corpus: Any, tmp_path: Path, line: str, message: str
) -> None:
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1))]})
    write_packed(tmp_path / "old" / "0.jsonl", [row("a/1", words(1))])
    with (tmp_path / "old" / "0.jsonl").open("a") as out:
        out.write(f"{line}\n")
    with pytest.raises(InputError, match=message):
        corpus.run("near_duplicates", {"earlier": [str(tmp_path / "old")]}, processes=1)


def test_files_that_have_changed_since_places_counted_them_are_refused(
    corpus: Any, tmp_path: Path
) -> None:
    old = {"earlier": [str(tmp_path / "old")]}
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1))]})
    write_packed(tmp_path / "old" / "1.jsonl", [row("a/1", words(1))])
    corpus.run("near_duplicates", old)
    corpus.run("held_out", NOTHING_HELD_OUT)
    with pytest.raises(InputError, match=r"1 files of earlier corpora, and \[\] now hold 0 files"):
        corpus.run("deduplicated", {})
    write_packed(tmp_path / "old" / "0.jsonl", [row("a/2", words(2))])
    with pytest.raises(InputError, match="now hold 2 files, or others; expected the same files"):
        corpus.run("deduplicated", old)


def test_the_toolkits_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine is 'dolma', which compares with no earlier corp"):
        DeduplicatedConfig(engine="dolma", earlier=("/old",))


def test_a_domain_without_documents_of_its_own_says_why(corpus: Any, tmp_path: Path) -> None:
    rows = [row(f"a/{n}", words(n)) for n in range(20)]
    write_raw(corpus, {"documents/a/part-00000": rows})
    write_packed(tmp_path / "old" / "0.jsonl", rows[:18])
    with pytest.raises(
        InputError, match=r"yields 2 to score .* no near copy of an earlier corpus's"
    ):
        run(corpus, tmp_path / "old", held_out={"share": 0.5, "max_cluster_share": 0.5})
