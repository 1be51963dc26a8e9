"""URLs and ids that stood before, against a walk over all documents in their order."""

import random
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.duplicates import digest_groups, keys


def write(corpus: Any, rows: dict[str, list[tuple[str, Any]]]) -> list[str]:
    """Write files of documents, each an id and a URL, as `held_out` leaves them; return the ids."""
    corpus.write_held_out({})
    names: list[str] = []
    for path, found in sorted(rows.items()):
        source = path.split("/")[0]
        documents = [
            corpus.document(source, name, f"Text {path} {n}") | {"metadata": {"url": url}}
            for n, (name, url) in enumerate(found)
        ]
        corpus.write_lines(corpus.folder("held_out") / f"documents/{path}.jsonl.gz", documents)
        names += [document["id"] for document in documents]
    return names


def marked(corpus: Any, attribute: str) -> list[str]:
    """Return the ids of documents with a score of 1."""
    found = corpus.attributes("deduplicated", "duplicates")
    return [name for name, mark in found.items() if mark[attribute] and mark[attribute][0][2] == 1]


def test_marks_by_url_and_id_are_those_worked_out_by_hand(corpus: Any) -> None:
    page, other = "https://example.org/page", "https://example.org/other"
    again, twice = "~0123456789abcdef", "~fedcba9876543210"
    write(
        corpus,
        {
            "a/part-00000": [
                ("x#000", page),
                ("x#001", page),  # of the same text
                ("x", f"{page}/"),  # to the letter
                ("none", ""),
                ("none2", ""),
                ("number", 7),
                ("number2", 7),
                ("y", other),
            ],
            "a/part-00001": [
                ("x#002", page),
                (f"x{again}", "u1"),
                (f"lone{again}", "u2"),  # the document that had the id has left
                (f"lone{twice}", "u3"),
                ("y~0123456789ABCDEF", "u4"),  # nothing that raw writes
            ],
            "b/part-00000": [
                ("z#000", page),
                ("z#001", page),
                (f"x#000{again}", page),
                ("y", other),  # another source's id, the same URL
            ],
        },
    )
    result = corpus.run("deduplicated", {})
    urls = ["b/z#000", "b/z#001", f"b/x#000{again}", "b/y"]
    ids = [f"a/x{again}", f"a/lone{twice}"]
    assert (marked(corpus, "duplicates__url"), marked(corpus, "duplicates__id")) == (urls, ids)
    numbers = result["report"]["numbers"]
    assert (numbers["same_url"], numbers["same_id"]) == (4, 2)
    rows = {row["source"]: row for row in result["report"]["tables"]["sources"]}
    assert [(rows[s]["same_url"], rows[s]["same_id"]) for s in "ab"] == [(0, 2), (4, 0)]


@pytest.mark.parametrize("seed", range(3))
def test_marks_by_url_and_id_are_those_of_sets(
    corpus: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "GROUP_SHARDS", 2)
    monkeypatch.setattr(keys, "PARTITION_BYTES", 200)
    monkeypatch.setattr(digest_groups, "BATCH_ROWS", 2)
    noise = random.Random(seed)
    names = [f"n{n}" for n in range(60)] + [f"n{n % 60}~{n:016x}" for n in range(90)]
    noise.shuffle(names)
    rows = {
        f"a/part-{n:05d}": [(name, f"u{noise.randrange(40)}") for name in names[n::7]]
        for n in range(7)
    }
    written = write(corpus, rows)
    urls = [url for _, found in sorted(rows.items()) for _, url in found]
    corpus.run("deduplicated", {}, processes=1)
    ids = [name.partition("~")[0] for name in written]
    for attribute, values in (("duplicates__url", urls), ("duplicates__id", ids)):
        expected = [name for n, name in enumerate(written) if values[n] in values[:n]]
        assert marked(corpus, attribute) == expected
        assert expected


def test_ids_that_raw_has_made_unique_are_found(corpus: Any, tmp_path: Path) -> None:
    for name in "ab":
        lines = "".join(f'{{"id": "{n}", "text": "Text {name} of {n}."}}\n' for n in (1, 2, 1))
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{name}.jsonl").write_text(lines)
    source = {"name": "mine", "reader": "files", "root": str(tmp_path / "texts")}
    raw = corpus.run("raw", {"sources": [source | {"min_document_bytes": 1}]})
    corpus.run("near_duplicates", {})
    corpus.run("held_out", {"share": 0})
    result = corpus.run("deduplicated", {})
    assert result["report"]["numbers"]["same_id"] == 4
    assert raw["report"]["numbers"]["repeated_ids"] == 4
