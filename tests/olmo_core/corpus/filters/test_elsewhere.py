"""Attributes by the dolma toolkit, made beside a user's documents, and rules that use them."""

import gzip
import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.toolkit import toolkit_python
from olmo_core.errors import InputError

TAG = """
from dolma.core.runtime import create_and_run_tagger
create_and_run_tagger(documents=["documents/a/*.gz"], experiment="mine-1",
    taggers=["gopher_v2", "c4_v2"], metadata="metadata", num_processes=1, debug=True)
"""
WORDS = ["the", "be", "to", "of", "and", "that", "have", "with", "book", "house", "river", "stone"]
RULES = [
    {"name": "few", "attribute": "mine-1.gopher_v2__word_count", "below": 40},
    {
        "name": "short",
        "attribute": "mine_1__c4_v2__lines_with_too_few_words",
        "measure": "share",
        "above": 0.04,
    },
]


def rewrite(path: Path, target: Path, old: bytes, new: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that the toolkit has tagged by its own command, where they lie."""
    folder = tmp_path_factory.mktemp("dolma")
    noise = random.Random(0)
    (folder / "documents" / "a").mkdir(parents=True)
    for file in range(2):
        rows = []
        for n in range(20):
            lines = [" ".join(noise.choices(WORDS, k=noise.choice((1, 8, 15)))) for _ in range(6)]
            rows.append({"id": f"d{file}-{n}", "text": "\n".join(lines) + ".", "source": "a"})
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / "documents" / "a" / f"{file}.jsonl.gz").write_bytes(gzip.compress(content))
    (folder / "nltk" / "tokenizers" / "punkt").mkdir(parents=True)
    done = subprocess.run(
        [str(toolkit_python()), "-I", "-c", TAG],
        cwd=folder,
        env={"NLTK_DATA": str(folder / "nltk"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for path in (folder / "attributes").rglob("*.gz"):  # a name as others may write it
        rewrite(path, path, b'"mine_1__gopher', b'"mine-1.gopher')
    return folder


def filter_corpus(corpus: Any, tree: Path, *taggers: str, shard_bytes: int = 3000) -> Any:
    """Run the jobs up to `filtered`, with the rules above, on the tree."""
    source = {
        "name": "mine",
        "reader": "files",
        "root": str(tree),
        "include": ["documents/**"],
        "attributes": ["mine-1"],
        "min_document_bytes": 1,
    }
    corpus.run("raw", {"sources": [source], "shard_bytes": shard_bytes})
    corpus.run("near_duplicates", {})
    corpus.run("held_out", {"share": 0.1, "min_documents": 2})
    corpus.run("tagged", {"taggers": {"mine": taggers}})
    corpus.run("deduplicated", {})
    rules = {"rules": {"mine": RULES}, "min_kept_share": {"mine": 0.1}}
    return corpus.run("filtered", rules)["report"]


def characters(spans: list[list[float]]) -> float:
    return sum(end - start for start, end, score in spans if score > 0)


def test_what_was_brought_along_is_what_our_own_pass_finds(corpus: Any, tree: Path) -> None:
    report = filter_corpus(corpus, tree, "gopher_v2", "c4_v2")
    ours = corpus.attributes("tagged", "tags")
    brought = corpus.attributes("held_out", "elsewhere")
    assert len(ours) == 36
    assert list(brought) == list(ours)
    assert {
        name: {re.sub("^mine.1(__|[.])", "tags__", key): spans for key, spans in found.items()}
        for name, found in brought.items()
    } == ours
    kept = {row["id"] for row in corpus.documents("filtered")}
    by_ours = {
        row["id"]
        for row in corpus.documents("held_out")
        if ours[row["id"]]["tags__gopher_v2__word_count"][0][2] >= 40
        and characters(ours[row["id"]].get("tags__c4_v2__lines_with_too_few_words", []))
        <= 0.04 * len(row["text"])
    }
    assert kept == by_ours
    assert 5 < len(kept) < 33
    dropped = {row["rule"]: row["dropped"] for row in report["tables"]["dropped by rule"]}
    assert min(dropped.values()) > 0


def test_one_name_written_by_two_is_refused(corpus: Any, tree: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    for path in sorted(tree.rglob("*/a/*.gz")):
        rewrite(path, renamed / path.relative_to(tree), b'"mine_1__c4', b'"tags__c4')
    with pytest.raises(
        InputError, match=r"'mine/d0-\d+': attribute 'tags__c4_v2__.*' is written by"
    ):
        filter_corpus(corpus, renamed, "c4_v2")
