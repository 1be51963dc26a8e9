"""What leaves with a document: its pieces, its text under other ids, its near copies."""

import hashlib
from pathlib import Path
from typing import Any

from assets.takedown import scan
from assets.takedown.records import read_records
from assets.takedown.search import Target, corpora, search
from olmo_core.corpus.document import Document, write_documents


def found(made: Any, *asked: str) -> tuple[dict[str, Target], set[str]]:
    corpora_there = corpora(read_records(made.path))
    known = search(corpora_there, asked)
    every = [target for corpus in corpora_there for target in corpus.targets.values()]
    assert len({(target.raw, target.id) for target in every}) == len(every)
    return {target.id: target for target in every}, known


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def test_near_copies_of_every_source_leave_with_a_document(made: Any, text: Any) -> None:
    rows = {
        "a": [{"id": "1", "text": text(1)}, {"id": "2", "text": text(2)}],
        "b": [
            {"id": "same", "text": text(1)},
            {"id": "near", "text": text(1, changed=1)},
            {"id": "words", "text": text(1).upper()},
            {"id": "far", "text": text(1)[:200] + text(3)},
        ],
    }
    made.corpus("r", rows)
    targets, known = found(made, "a/1", "c/9")
    assert known == {"a/1"}
    assert {name: each.why for name, each in targets.items()} == {
        "a/1": "asked for",
        "b/same": "same text",
        "b/near": "near copy",
        "b/words": "near copy",
    }
    assert targets["b/words"].similarity == 1
    runs = [{" ".join(text(1, c).split()[n : n + 5]) for n in range(56)} for c in (0, 1)]
    share = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
    assert targets["b/near"].similarity == share
    assert {each.of for each in targets.values()} == {"a/1"}


def test_a_document_is_asked_for_by_url_or_text_and_two_lines_may_ask_for_one(
    made: Any, text: Any
) -> None:
    rows = {
        "a": [
            {"id": "1", "text": text(1), "url": "https://x.org/?a=1#b"},
            {"id": "2", "text": text(2), "url": "https://x.org/?a=1#b"},
            {"id": "3", "text": text(3)},
        ]
    }
    made.corpus("r", rows)
    asked = ("https://x.org/?a=1#b", sha1(text(3)).upper(), "a/3")
    targets, known = found(made, *asked)
    assert known == set(asked)
    assert sorted(targets) == ["a/1", "a/2", "a/3"]


def test_all_pieces_of_a_text_leave_with_one_of_them(made: Any, text: Any) -> None:
    whole = "\n\n".join(text(n) for n in range(5))
    rows = {"a": [{"id": "1", "text": whole}, {"id": "2", "text": text(9)}], "b": [{"text": "x y"}]}
    made.corpus("r", rows, max_document_bytes=500)
    targets, _ = found(made, "a/1#002")
    pieces = {name: each.why for name, each in targets.items()}
    assert len(pieces) > 3
    assert pieces.pop("a/1#002") == "asked for"
    assert set(pieces.values()) == {"piece of its text"}
    assert all(name.startswith("a/1#") for name in pieces)
    by_whole, known = found(made, "a/1")
    assert by_whole.keys() == targets.keys()
    assert known == {"a/1"}


def test_pieces_of_a_near_copy_stay_that_are_no_near_copies(made: Any, text: Any) -> None:
    rows = {
        "a": [{"id": "1", "text": text(1)}],
        "b": [{"id": "1", "text": f"{text(1, changed=1)}\n\n{text(2)}"}],
    }
    made.corpus("r", rows, max_document_bytes=500)
    targets, _ = found(made, "a/1")
    assert {name: each.why for name, each in targets.items()} == {
        "a/1": "asked for",
        "b/1#000": "near copy",
    }


def test_an_id_names_all_documents_that_had_it_and_a_mark_one(made: Any, text: Any) -> None:
    rows = {"a": [{"id": "1", "text": text(n)} for n in range(3)]}
    made.corpus("r", rows)
    targets, _ = found(made, "a/1")
    assert len(targets) == 3
    [second, third] = sorted(name for name in targets if "~" in name)
    assert found(made, second)[0].keys() == {second}
    assert found(made, third)[0].keys() == {third}


def test_a_text_is_found_in_every_version_and_recipe_under_any_id(made: Any, text: Any) -> None:
    made.corpus("r", {"a": [{"id": "1", "text": text(1)}, {"id": "2", "text": text(2)}]})
    made.corpus("r", {"a": [{"id": "2", "text": text(2)}, {"id": "0", "text": text(0)}]})
    made.corpus("other", {"b": [{"id": "x", "text": text(1)}, {"id": "y", "text": text(1, 1)}]})
    there = corpora(read_records(made.path))
    assert search(there, ["a/1"]) == {"a/1"}
    assert {corpus.raw.name: sorted(t.id for t in corpus.targets.values()) for corpus in there} == {
        "r/raw/0": ["a/1"],
        "r/raw/1": [],
        "other/raw/0": ["b/x", "b/y"],
    }


def test_near_copies_in_earlier_corpora_are_found_where_these_lie(
    made: Any, text: Any, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    texts = [text(1, changed=1), text(5), text(3)]
    rows = [Document(id=f"{n}", text=each, source="o") for n, each in enumerate(texts)]
    write_documents(old / "0.jsonl.gz", rows)
    own = {"a": [{"id": "1", "text": text(1)}, {"id": "2", "text": text(2)}]}
    made.corpus("r", own, earlier=[old])
    targets, known = found(made, "a/1", sha1(text(3)))
    assert {name: (each.why, each.earlier) for name, each in targets.items()} == {
        "a/1": ("asked for", False),
        "o/0": ("near copy", True),
        "o/2": ("asked for", True),
    }
    assert (targets["o/0"].src, targets["o/0"].line) == (str(old / "0.jsonl.gz"), 1)
    assert len(known) == 2
    write_documents(old / "1.jsonl.gz", rows)  # its places are now those of other files
    [corpus] = corpora(read_records(made.path))
    assert search([corpus], ["a/1"]) == {"a/1"}
    assert [record.asset for record in corpus.changed] == ["near_duplicates"]
    assert [target.id for target in corpus.targets.values()] == ["a/1"]


def test_many_processes_find_the_same(made: Any, text: Any, monkeypatch: Any) -> None:
    rows = {
        "a": [{"id": str(n), "text": text(n)} for n in range(8)],
        "b": [{"id": str(n), "text": text(n, changed=1)} for n in range(4)],
    }
    made.corpus("r", rows)
    alone, _ = found(made, "a/1", "a/7")
    monkeypatch.setattr(scan, "_ALONE_BYTES", 0)
    monkeypatch.setenv("OLMO_PROCESSES", "2")
    assert found(made, "a/1", "a/7")[0] == alone
    assert alone.keys() == {"a/1", "b/1", "a/7"}
