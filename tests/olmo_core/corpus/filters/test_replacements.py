"""Spans are replaced as dolma's mixer does it, on random texts, and as worked out by hand."""

import random
from pathlib import Path
from typing import Any

from olmo_core.corpus.filters.replacements import (
    Replacement,
    mixer_spans,
    replaced,
    spans_to_replace,
)
from olmo_core.corpus.rows import read_rows, write_rows
from olmo_core.corpus.toolkit import ToolkitCommand, run_steps

NAMED = Replacement(name="named", attribute="e__t__a", replacement="[{}|{}]", min_score=0.5)
GONE = Replacement(name="gone", attribute="e__t__b", replacement="", min_score=0.7)


def test_spans_that_overlap_are_replaced_as_the_first_of_them() -> None:
    found = {
        "e__t__a": [[4, 6, 1.0], [0, 3, 1.0], [3, 3, 1.0], [8, 9, 0.4]],
        "e__t__b": [[2, 5, 1.0], [6, 8, 0.7], [9, 10, 0.6]],
    }
    spans = spans_to_replace(found, [NAMED, GONE])
    assert [(span.start, span.end, span.by.name) for span in spans] == [
        (0, 6, "named"),
        (6, 8, "gone"),
    ]
    assert replaced("abcdefghij", spans) == "[abcdef|abcdef]ij"


def test_the_mixer_replaces_the_same(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    expected: dict[str, str] = {}
    for number in range(500):
        text = "".join(rng.choices("abcü 🙂\n", k=rng.randrange(1, 25)))
        found: dict[str, list[list[float]]] = {}
        for each in (NAMED, GONE):
            begins = [rng.randrange(len(text)) for _ in range(rng.randrange(4))]
            found[each.attribute] = [
                [begin, rng.randrange(begin, len(text) + 1), rng.choice([0.0, 0.5, 1.0])]
                for begin in begins
            ]
        spans = spans_to_replace(found, [NAMED, GONE])
        expected[str(number)] = replaced(text, spans)
        rows.append({"id": str(number), "text": text, "source": "s"})
        marks.append({"id": str(number), "attributes": mixer_spans(spans, [NAMED, GONE])})
    name = "s/part-00000.jsonl.gz"
    write_rows(tmp_path / "view" / "documents" / name, rows)
    write_rows(tmp_path / "view" / "attributes" / "replaced" / name, marks)
    stream = {
        "name": "s",
        "documents": [f"view/documents/{name}"],
        "attributes": ["replaced"],
        "filter": {"include": [], "exclude": ["false"], "syntax": "jq"},
        "span_replacement": [NAMED.mixer(), GONE.mixer()],
        "output": {"path": "mixed", "max_size_in_bytes": 2**31, "discard_fields": ["attributes"]},
    }
    config = {
        "streams": [stream],
        "processes": 1,
        "shuffle": False,
        "work_dir": {"input": "dolma/input", "output": "dolma/output"},
    }
    run_steps([[ToolkitCommand(name="mix", kind="mixer", config=config)]], tmp_path, processes=1)
    [mixed] = (tmp_path / "mixed").rglob("*.gz")
    assert {row["id"]: row["text"] for row in read_rows(mixed)} == expected
    assert sum(text != row["text"] for text, row in zip(expected.values(), rows, strict=True)) > 200
