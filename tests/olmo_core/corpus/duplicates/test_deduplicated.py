"""Asset `deduplicated`: marks worked out by hand, and exact duplicates against SHA-1."""

import hashlib
from typing import Any

import pytest

from olmo_core.corpus.duplicates.deduplicated import covered_share
from olmo_core.corpus.toolkit import ToolkitError

SAME = "This line is long enough to be counted as a paragraph of its own."
OTHER = "Here is another line that is just as long as a paragraph must be."
LONE = "This is a line of some length that no other document has as well."
HELD = "A sentence of the perplexity set, which training must not have seen."


def scores(corpus: Any) -> dict[str, tuple[float, float, float]]:
    """Document id -> exact duplicate, repeated share, contaminated share."""
    return {
        name: tuple(
            (values[key] or [[0, 0, 0.0]])[0][2]
            for key in ("duplicates__text", "duplicates__paragraphs", "contamination__paragraphs")
        )
        for name, values in corpus.attributes("deduplicated", "duplicates").items()
    }


def run(corpus: Any, documents: dict[str, dict[str, str]], *held_out: str) -> dict[str, Any]:
    corpus.write_held_out(documents, prose=held_out or ("Nothing that stands elsewhere.",))
    taggers = {source: ["char_length_v1"] for source in documents}
    corpus.run("tagged", {"taggers": taggers})
    return corpus.run("deduplicated", {"min_paragraph_bytes": 40})


def test_marks_are_those_worked_out_by_hand(corpus: Any) -> None:
    result = run(
        corpus,
        {
            "a": {
                "1-first": f"{SAME}\n{OTHER}",
                "2-copy": f"{SAME}\n{OTHER}",
                "3-blank": f"{SAME}\n{OTHER} ",  # not the same text; the same paragraphs
                "4-half": f"{SAME}\n{LONE}",
                "5-short": "short line\nshort line\nshort line",  # below the minimum
                "6-held": f"{HELD}\n{LONE} Nearly.",
            },
            "b": {
                "1-copy": f"{SAME}\n{OTHER}",  # the first copy in order of the sources stays
                "2-code": f'def f():\n    """Docs.\n\n        {HELD}\n    """',
                "3-umlaut": "Ungewöhnlich schöne Grüße für müde Bären überall auf der Welt.",
                "4-umlaut": "Ungewöhnlich schöne Grüße für müde Bären überall auf der Welt.",
            },
        },
        f"A title\n  {HELD}",
    )
    marks = scores(corpus)
    # A paragraph counts with its line break; blanks around it do not count.
    half = round((len(SAME) + 1) / len(f"{SAME}\n{LONE}"), 6)
    held = round((len(HELD) + 1) / len(f"{HELD}\n{LONE} Nearly."), 6)
    code = round((len(HELD) + 1) / len(f'def f():\n"""Docs.\n\n{HELD}\n"""'), 6)
    assert marks == {
        "a/1-first": (0, 0, 0),
        "a/2-copy": (1, 1, 0),
        "a/3-blank": (0, 1, 0),
        "a/4-half": (0, half, 0),
        "a/5-short": (0, 0, 0),
        "a/6-held": (0, 0, held),
        "b/1-copy": (1, 1, 0),
        "b/2-code": (0, code, code),  # found although it is indented here
        "b/3-umlaut": (0, 0, 0),
        "b/4-umlaut": (1, 1, 0),
    }
    assert result["report"]["numbers"]["exact_duplicates"] == 3
    rows = {row["source"]: row for row in result["report"]["tables"]["sources"]}
    assert (rows["a"]["exact_duplicates"], rows["b"]["exact_duplicates"]) == (1, 2)
    assert (rows["a"]["contaminated"], rows["b"]["contaminated"]) == (1, 1)


def test_exact_duplicates_are_those_of_sha1(tiny: Any) -> None:
    corpus, results = tiny
    seen: set[str] = set()
    expected: dict[str, bool] = {}
    for document in corpus.documents("held_out"):
        digest = hashlib.sha1(document["text"].encode()).hexdigest()
        expected[document["id"]] = digest in seen
        seen.add(digest)
    assert {name: bool(mark[0]) for name, mark in scores(corpus).items()} == expected
    count = results["deduplicated"]["report"]["numbers"]["exact_duplicates"]
    assert count == sum(expected.values()) > 0


def test_repeated_paragraphs_are_those_of_a_set(tiny: Any) -> None:
    corpus, _ = tiny
    marks = scores(corpus)
    seen: set[str] = set()
    for document in corpus.documents("held_out"):
        lines = [line.strip() for line in document["text"].split("\n")]
        length = len("\n".join(lines))
        repeated = 0
        for line in lines:
            if len(line.encode()) >= 40:
                repeated += (len(line) + 1) * (line in seen)
                seen.add(line)
        # The toolkit counts the last line without a line break.
        assert abs(marks[document["id"]][1] * length - repeated) <= 1.01, document["id"]


def test_spans_over_more_than_the_text_are_an_error() -> None:
    assert covered_share([[0, 5, 1], [6, 11, 1]], 10, "x") == 1.0
    with pytest.raises(ToolkitError, match="cover 12 of 10 characters"):
        covered_share([[0, 12, 1]], 10, "x")


def test_attributes_of_other_documents_are_refused(corpus: Any) -> None:
    run(corpus, {"a": {"1": SAME, "2": OTHER}})
    path = corpus.folder("tagged") / "attributes" / "tags" / "a" / "part-00000.jsonl.gz"
    corpus.write_lines(path, corpus.read_lines(path)[:1])
    with pytest.raises(ToolkitError, match="found no row; expected id 'a/2'"):
        corpus.run("deduplicated", {})
