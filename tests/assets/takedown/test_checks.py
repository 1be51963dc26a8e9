"""Checks that refuse a corpus which has what any recipe has taken down."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from assets.corpus import taken_down
from assets.corpus.nodes import corpus_nodes
from assets.corpus.taken_down import earlier_without_taken_down, nothing_taken_down
from assets.node import Finished, Node, Verdict
from assets.recipe import load_recipe
from assets.takedown.ledger import TakenDown, read_ledger, write_ledger
from assets.takedown.proof import unwanted
from olmo_core.corpus.document import Document, write_documents
from olmo_core.data.document_index import DocumentIndex
from olmo_core.errors import ConfigError
from olmo_core.lineage.absence import Unwanted
from olmo_core.run.folder import RunFolder

NODE = Node(recipe="two", name="tokens", stage="corpus", description="", module="", config={})


@pytest.fixture
def one(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a recipe that takes documents down, beside a recipe `two`."""
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    for name in ("one", "two"):
        (tmp_path / "recipes" / name).mkdir(parents=True)
        (tmp_path / "recipes" / name / "corpus.yaml").write_text("raw: {}\n")
    return tmp_path / "recipes" / "one"


def gone(text: str, name: str = "x/1", **others: Any) -> TakenDown:
    sha1 = hashlib.sha1(text.encode()).hexdigest()
    return TakenDown(
        **{"id": name, "source": "x", "sha1": sha1, "url": None, "why": "asked for", "of": name}
        | others
    )


def judged(runs: dict[str, Path]) -> Verdict:
    tokens = RunFolder(runs["tokens"])
    inputs = {name: RunFolder(runs[name]) for name in ("filtered", "tokenizer") if name in runs}
    finished = Finished(node=NODE, folder=tokens, result=tokens.read_result(), inputs=inputs)
    return nothing_taken_down.evaluate(finished)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_text_that_was_taken_down_is_refused_under_any_id(
    made: Any, one: Path, text: Any, indexed: bool
) -> None:
    url = "https://x.org/?a=1"
    rows = {"a": [{"id": str(n), "text": text(n)} for n in range(5)]}
    rows["a"].append({"id": "u", "text": text(9), "url": url})
    runs = made.index("two", rows)
    if not indexed:
        shutil.rmtree(runs["documents"])
    assert judged(runs) == Verdict(True, "no recipe has taken anything down")
    write_ledger(one, [gone(text(77)), gone(text(1, changed=1), name="a/1")])
    assert judged(runs) == Verdict(True, "none of 2 documents", {"texts": 2})
    write_ledger(one, [gone(text(1), name="b/\x1b[2J")])
    refused = judged(runs)
    assert not refused.passed
    assert refused.description == (
        "holds 1 documents that were taken down: 'b/\\x1b[2J' (by one). They must leave this "
        f"recipe too: olmo takedown two --docs {one / 'takedown' / 'documents.jsonl'} --write"
    )
    shutil.rmtree(one / "takedown")
    write_ledger(one, [gone(text(88), url=url)])
    assert not judged(runs).passed


def test_what_a_rule_has_dropped_is_in_the_corpus_and_what_a_list_excludes_is_not(
    made: Any, one: Path, text: Any, tmp_path: Path
) -> None:
    rows = {"a": [{"id": str(n), "text": text(n)} for n in range(6)]}
    rows["a"].append({"id": "near", "text": text(0, changed=1)})
    listed = tmp_path / "list"
    listed.write_text("id: 0")
    runs = made.index("two", rows, dropped=["a/1"], exclude_documents=str(listed))
    write_ledger(one, [gone(text(0)), gone(text(0, changed=1))])
    assert judged(runs).passed  # excluded, and left out as near to it
    write_ledger(one, [gone(text(1))])
    assert not judged(runs).passed


@pytest.mark.parametrize("indexed", [True, False])
def test_a_text_of_which_parts_were_replaced_is_known_by_what_it_was(
    made: Any, one: Path, text: Any, indexed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"a": [{"id": str(n), "text": text(n)} for n in range(5)]}
    masked = f"|||MASK||| {text(1)[20:]}"
    runs = made.index("two", rows, replaced={"a/1": masked})
    sha1 = bytes.fromhex(gone(text(1)).sha1 or "")
    index = RunFolder(runs["documents"])
    assert not DocumentIndex(index.path).of_sha1(sha1)
    nothing = Unwanted(sha1s=(), urls=(), ids=())
    found = unwanted(index, nothing, (gone(text(1), name="x/9"),))
    assert list(found.own_ids) == ["a/1"]
    if not indexed:
        shutil.rmtree(runs["documents"])
    write_ledger(one, [gone(text(7))])
    assert judged(runs).passed
    write_ledger(one, [gone(text(1), name="x/9")])
    for reads in (True, False):
        if not reads:  # the corpus is the same, and so is what was found in it
            monkeypatch.setattr("assets.takedown.replaced.read_folder", None)
        refused = judged(runs)
        assert not refused.passed
        assert "'x/9' (by one)" in refused.description


def test_a_ledger_that_cannot_be_read_is_refused_with_its_line(one: Path) -> None:
    write_ledger(one, [gone("a"), gone("b")])
    assert len(read_ledger(one)) == 2
    path = one / "takedown" / "documents.jsonl"
    path.write_text(path.read_text() + '{"id": 1}\n')
    with pytest.raises(ConfigError, match=r"documents\.jsonl:3: .*missing"):
        read_ledger(one)


def test_an_earlier_corpus_that_has_what_was_taken_down_is_refused(
    made: Any, one: Path, text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    rows = [Document(id=f"o/{n}", text=text(n), source="o") for n in range(3)]
    write_documents(old / "0.jsonl.gz", rows)
    check = earlier_without_taken_down((str(old),))
    run = RunFolder(made.corpus("two", {"a": [{"id": "9", "text": text(9)}]}, earlier=[old])[1])
    finished = Finished(node=NODE, folder=run, result=run.read_result(), inputs={})
    assert check.evaluate(finished) == Verdict(True, "no recipe has taken anything down")
    write_ledger(one, [gone(text(7))])
    assert check.evaluate(finished) == Verdict(True, "none of 1 documents in 1 files")
    write_ledger(one, [gone(text(1), name="b/1")])
    for reads in (True, False):
        if not reads:  # the files are the same, and so is what was found in them
            monkeypatch.setattr(taken_down, "read_documents", None)
        refused = check.evaluate(finished)
        assert not refused.passed
        assert f"1 documents of near_duplicates.earlier were taken down: {old}/0.jsonl.gz:2. " in (
            refused.description
        )
    monkeypatch.undo()


def test_the_check_stands_where_a_recipe_has_earlier_corpora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    mine = tmp_path / "recipes" / "mine"
    mine.mkdir(parents=True)
    (mine / "recipe.yaml").write_text("extends: demo\n")
    (mine / "corpus.yaml").write_text(f"near_duplicates: {{earlier: [{tmp_path}]}}\n")
    for name, expected in (("demo", []), ("mine", ["earlier_without_taken_down"])):
        [node] = [n for n in corpus_nodes(load_recipe(name)) if n.name == "near_duplicates"]
        assert [check.name for check in node.checks] == expected
        assert all(check.blocking for check in node.checks)
