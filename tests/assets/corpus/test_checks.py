"""Checks of the corpus: what they say of a report."""

from pathlib import Path
from typing import Any

from assets.corpus import checks
from assets.corpus.nodes import corpus_nodes
from assets.node import Finished, Verdict
from assets.recipe import load_recipe
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder


def judged(rows: list[dict[str, Any]]) -> Verdict:
    node = corpus_nodes(load_recipe("demo"))[0]
    report = {"report": {"tables": {"excluded": rows}}}
    finished = Finished(node=node, folder=RunFolder(Path("x")), result=report, inputs={})
    return checks.exclusions_matched.evaluate(finished)


def test_an_entry_that_names_no_document_is_seen_and_blocks_nothing() -> None:
    rows = [
        {"source": "books", "kind": "id", "entries": 4, "matched_nothing": 0, "documents": 9},
        {"source": "books", "kind": "url", "entries": 2, "matched_nothing": 2, "documents": 0},
    ]
    assert judged(rows[:1]) == Verdict(True, "4 entries, 9 documents")
    verdict = judged(rows)
    assert not verdict.passed
    assert verdict.description.startswith("without a document: 2 url of books (")
    assert not checks.exclusions_matched.blocking


def test_the_check_stands_where_a_source_has_a_list(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    recipe = tmp_path / "mine"
    recipe.mkdir()
    (recipe / "recipe.yaml").write_text("extends: demo\n")
    (recipe / "corpus.yaml").write_text(
        "raw: {sources: [{name: licences, reader: pydoc_topics, exclude_documents: /list}]}\n"
    )
    for name, expected in (("demo", False), ("mine", True)):
        raw = corpus_nodes(load_recipe(name))[0]
        assert (checks.exclusions_matched in raw.checks) == expected


def test_a_mix_that_is_read_too_often_says_what_to_do(tmp_path: Path) -> None:
    recipe = load_recipe("demo")
    configs = recipe.trainings("stage1_mix")
    check = checks.fits_training(configs)
    write_json(
        tmp_path / "result.json", {"schema_version": 1, "report": {"data": {"vocab_size": 100}}}
    )
    steps = 20  # of an epoch; the demo's stage 1 has hundreds
    tokens = {"books": steps * configs[0].tokens_per_step}
    finished = Finished(
        node=corpus_nodes(recipe)[-1],
        folder=RunFolder(tmp_path),
        result={"report": {"data": {"tokens": tokens}}},
        inputs={"tokens": RunFolder(tmp_path)},
    )
    verdict = check.evaluate(finished)
    assert not verdict.passed
    assert f"; expected at most {checks.MOST_EPOCHS}: lower max_duration (" in verdict.description
