"""A tree of dolma's own making: its dedupe and mixer, and the graph's jobs, keep the same.

Documents are as those of its own tests: plain ids, nested metadata, attributes with spans.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.toolkit import ToolkitCommand, run_steps

WORDS = ["the", "be", "to", "of", "and", "that", "have", "with", "book", "house", "river", "stone"]
FILES = ("view/documents/a/0.jsonl.gz", "view/documents/a/1.jsonl.gz")
COPIED = ".attributes.dup_text // [] | length > 0"
FEW = "(.attributes.exp__gopher_v2__word_count[0][2]) < 30"


def rows() -> list[dict[str, Any]]:
    noise = random.Random(3)
    made: list[dict[str, Any]] = []
    for n in range(60):
        lines = [" ".join(noise.choices(WORDS, k=noise.randrange(4, 12))) for _ in range(5)]
        if n % 7 == 0:
            lines.insert(2, "write to someone@example.org please, or to nobody at all")
        text = made[n - 3]["text"] if n % 10 == 9 else "\n".join(lines)
        metadata = {"length": len(text), "nested": {"n": [n, None, 0.5]}, "url": f"u/{n}"}
        times = dict.fromkeys(("added", "created"), "2023-04-11T10:00:00.000Z")
        made.append({"id": f"doc {n}", "text": text, "source": "a", **times, "metadata": metadata})
    return made


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def deduper(name: str, what: dict[str, Any]) -> ToolkitCommand:
    bloom = {
        "file": f"bloom/{name}.bin",
        "read_only": False,
        "size_in_bytes": 1 << 16,
        "estimated_doc_count": 1000,
        "desired_false_positive_rate": 0.0,
    }
    config = {
        "documents": list(FILES),
        "dedupe": {"name": name, "skip_empty": True, **what},
        "bloom_filter": bloom,
        "work_dir": {"input": "dolma/input", "output": "dolma/output"},
        "processes": 1,
    }
    return ToolkitCommand(name=name, kind="deduper", config=config)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toolkit's tags, both of its dedupes, and what its mixer makes of them."""
    folder = tmp_path_factory.mktemp("dolma")
    for number, path in enumerate(FILES):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) + "\n" for row in rows()[30 * number : 30 * number + 30]]
        (folder / path).write_bytes(gzip.compress("".join(lines).encode()))
    tags = [
        ToolkitCommand(
            name=f"tag{number}",
            kind="tag",
            config={
                "documents": [path],
                "destination": ["view/attributes/exp/a"],
                "metadata": f"metadata/{number}",
                "experiment": "exp",
                "taggers": ["gopher_v2", "pii_regex_with_counts_fast_v2"],
            },
        )
        for number, path in enumerate(FILES)
    ]
    dedupes = [
        deduper("texts", {"documents": {"attribute_name": "dup_text", "key": "$.text"}}),
        deduper("lines", {"paragraphs": {"attribute_name": "dup_lines"}, "min_length": 40}),
    ]
    stream = {
        "name": "a",
        "documents": list(FILES),
        "attributes": ["exp", "texts"],
        "filter": {"include": [], "exclude": [COPIED, FEW], "syntax": "jq"},
        "span_replacement": [
            {
                "span": "$.attributes.exp__pii_regex_with_counts_fast_v2__EMAIL_ADDRESS",
                "min_score": 0.5,
                "replacement": "|||EMAIL|||",
                "syntax": "jsonpath",
            }
        ],
        "output": {
            "path": "mixed/a",
            "max_size_in_bytes": 1 << 30,
            "discard_fields": ["attributes"],
        },
    }
    work_dir = {"input": "dolma/input", "output": "dolma/output"}
    config = {"streams": [stream], "processes": 1, "shuffle": False, "work_dir": work_dir}
    mixer = ToolkitCommand(name="mix", kind="mixer", config=config)
    run_steps([tags, dedupes, [mixer]], folder, processes=2)
    return folder


def test_the_graph_keeps_what_dolma_keeps(corpus: Any, tree: Path) -> None:
    source = {
        "name": "a",
        "reader": "files",
        "root": str(tree / "view"),
        "attributes": ["exp", "texts", "lines"],
        "min_document_bytes": 1,
    }
    corpus.run("raw", {"sources": [source], "shard_bytes": 4000})
    corpus.run("near_duplicates", {})
    corpus.run("held_out", {"share": 0})
    corpus.run("tagged", {"taggers": {"a": ["char_length_v1"]}})
    marks = corpus.run("deduplicated", {"min_paragraph_bytes": 40})["report"]["numbers"]
    pii = "exp__pii_regex_with_counts_fast_v2__EMAIL_ADDRESS"
    rules = [
        {"name": "copied", "attribute": "dup_text", "measure": "spans", "above": 0},
        {"name": "few", "attribute": "exp__gopher_v2__word_count", "below": 30},
    ]
    replacements = [{"name": "mail", "attribute": pii, "replacement": "|||EMAIL|||"}]
    corpus.run(
        "filtered",
        {"rules": {"a": rules}, "replacements": {"a": replacements}, "min_kept_share": {"a": 0.1}},
    )

    mixed = [row for path in sorted((tree / "mixed").rglob("*.gz")) for row in read(path)]
    kept = corpus.documents("filtered")
    assert [(row["id"].removeprefix("a/"), row["text"]) for row in kept] == [
        (row["id"], row["text"]) for row in mixed
    ]
    assert 20 < len(kept) < 55
    assert sum("|||EMAIL|||" in row["text"] for row in kept) >= 3
    by_id = {row["id"]: row for row in rows()}
    for row in kept:
        original = by_id[row["id"].removeprefix("a/")]
        assert original["metadata"].items() <= row["metadata"].items()
        assert (row["added"], row["created"]) == (original["added"], original["created"])

    said: dict[str, dict[str, Any]] = {}
    for name in ("texts", "lines"):
        for path in sorted((tree / "view" / "attributes" / name).rglob("*.gz")):
            for row in read(path):
                said.setdefault(f"a/{row['id']}", {}).update(row["attributes"])
    ours = corpus.attributes("deduplicated", "duplicates")
    assert list(ours) == list(said)
    copied = {name for name, found in said.items() if found.get("dup_text")}
    assert {name for name, found in ours.items() if found["duplicates__text"]} == copied
    assert marks["exact_duplicates"] == len(copied) == 6
    for name, found in ours.items():
        length = len(by_id[name.removeprefix("a/")]["text"])
        covered = sum(span[1] - span[0] for span in said[name].get("dup_lines") or [])
        assert found["duplicates__paragraphs"][0][2] == pytest.approx(covered / length, abs=0.01)
