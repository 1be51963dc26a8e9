"""Asset `deduplicated`: marks worked out by hand, and exact duplicates against SHA-1."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.duplicates import bloom, copies, digest_groups, keys
from olmo_core.corpus.duplicates.bloom import covered_share
from olmo_core.corpus.toolkit import ToolkitError
from olmo_core.run.job import Job

SAME = "This line is long enough to be counted as a paragraph of its own."
OTHER = "Here is another line that is just as long as a paragraph must be."
LONE = "This is a line of some length that no other document has as well."
ONLY_BY_KEYS = ("duplicates__near", "duplicates__url", "duplicates__id")
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


def marked(found: Any, out: Path) -> dict[str, dict[str, float]]:
    """Document id -> score by attribute, of the attribute files below a folder."""
    rows = [row for path in sorted(out.rglob("*.gz")) for row in found.read_lines(path)]
    return {
        row["id"]: {key: (spans or [[0, 0, 0.0]])[0][2] for key, spans in row["attributes"].items()}
        for row in rows
    }


def test_the_toolkits_bloom_filters_say_the_same(tiny: Any, tmp_path: Path) -> None:
    corpus, results = tiny
    held_out = corpus.folder("held_out")
    with Job.open(tmp_path / "job") as job:
        found, paragraphs = bloom.mark_copies(
            held_out / "documents", held_out / "paloma", tmp_path / "out", job, min_bytes=40
        )
    assert paragraphs == results["deduplicated"]["report"]["numbers"]["paragraphs"]
    assert sum(shard["counts"]["documents"] for shard in found) == len(corpus.documents("held_out"))
    ours = marked(corpus, corpus.folder("deduplicated") / "attributes")
    theirs = marked(corpus, tmp_path / "out")
    assert list(ours) == list(theirs)
    for document in corpus.documents("held_out"):
        one, other = ours[document["id"]], theirs[document["id"]]
        for name in ONLY_BY_KEYS:
            del one[name]
        # The toolkit leaves out the line break that ends a text. It takes a text's length in bytes:
        # where that is more than in characters, its last span may be one too long.
        if document["text"].isascii() and not document["text"].endswith("\n"):
            assert one == other
        else:
            length = len("\n".join(line.strip() for line in document["text"].split("\n")))
            assert one.keys() == other.keys()
            assert all(abs(other[key] - one[key]) <= 1 / length + 1e-6 for key in one)


def test_marks_do_not_depend_on_how_the_work_is_cut(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, _ = tiny
    monkeypatch.setattr(keys, "GROUP_SHARDS", 2)
    monkeypatch.setattr(keys, "PARTITION_BYTES", 40_000)
    for module in (copies, digest_groups):
        monkeypatch.setattr(module, "BATCH_ROWS", 100)
    held_out = corpus.folder("held_out")
    with Job.open(tmp_path / "job") as job:
        job.processes = 1
        attributes = tmp_path / "job" / "attributes" / "duplicates"
        copies.mark_copies(
            held_out / "documents",
            held_out / "paloma",
            held_out / "clusters.parquet",
            attributes,
            job,
            reads="",
            min_bytes=40,
        )
        assert len(list((job.scratch / "digests").iterdir())) > 3
        assert len(list((job.scratch / "repeated").iterdir())) > 3
    whole = corpus.folder("deduplicated") / "attributes" / "duplicates"
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.gz"))
    assert files
    for name in files:
        assert (attributes / name).read_bytes() == (whole / name).read_bytes()
