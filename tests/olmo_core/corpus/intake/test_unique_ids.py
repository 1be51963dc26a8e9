"""Ids of a user's files: whatever they are, the corpus has each once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.corpus.document import Document, read_documents, write_documents
from olmo_core.corpus.intake import unique_ids
from olmo_core.corpus.intake.unique_ids import Keys, find_repeated, rename


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_first_by_path_and_line_keeps_its_id(tmp_path: Path, files: Any, read: Any) -> None:
    write(tmp_path / "b.jsonl", {"id": "x", "text": "b1"}, {"id": 7, "text": "b2"})
    write(tmp_path / "a.jsonl", *({"id": "x", "text": f"a{n}"} for n in (1, 2)), {"text": "a3"})
    write(tmp_path / "c.jsonl", {"id": "7", "text": "c1"}, {"id": "", "text": "c2"})
    (tmp_path / "z.txt").write_text("z")
    write(tmp_path / "y.jsonl", {"id": "z.txt", "text": "y1"})
    one = read(files(tmp_path), shard_bytes=1)
    ids = {document.text: document.id for document in one.documents}
    assert list(ids) == ["a1", "a2", "a3", "b1", "b2", "c1", "c2", "y1", "z"]
    first = {text: ids[text] for text in ("a1", "a3", "b2", "c2", "y1")}
    assert first == {
        "a1": "mine/x",
        "a3": "mine/a.jsonl:3",
        "b2": "mine/7",
        "c2": "mine/c.jsonl:2",
        "y1": "mine/z.txt",
    }
    for text, name in (("a2", "x"), ("b1", "x"), ("c1", "7"), ("z", "z.txt")):
        assert ids[text].startswith(f"mine/{name}~")
    assert len(set(ids.values())) == 9
    counted = ("integer_ids", "missing_ids", "repeated_ids", "documents")
    assert [one.row[key] for key in counted] == [1, 2, 4, 9]
    for options in ({"shard_bytes": 1_000_000}, {"shard_bytes": 1, "processes": 2}):
        assert read(files(tmp_path), **options).documents == one.documents
    (tmp_path / "c.jsonl").unlink()  # what an id becomes depends on its own place alone
    assert read(files(tmp_path)).texts[ids["b1"]] == "b1"


def test_a_piece_and_a_real_id_of_its_name(tmp_path: Path, files: Any, read: Any) -> None:
    write(
        tmp_path / "a.jsonl",
        {"id": "x#001", "text": "real"},
        {"id": "x", "text": "one\n\ntwo"},
        {"id": "x#000", "text": "also"},
    )
    one = read(files(tmp_path, max_document_bytes=7))
    assert [(d.id.split("~")[0], "~" in d.id, d.text) for d in one.documents] == [
        ("mine/x#001", False, "real"),
        ("mine/x#000", False, "one"),
        ("mine/x#001", True, "two"),
        ("mine/x#000", True, "also"),
    ]
    assert one.row["repeated_ids"] == 2


def test_partitions_find_what_counting_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    names = [[f"n{n}" for n in random.integers(0, 300, size)] for size in (1, 200, 50, 400)]
    paths = [tmp_path / f"{number}.npy" for number in range(4)]
    for path, shard in zip(paths, names, strict=True):
        keys = Keys()
        for line, name in enumerate(shard):
            keys.add(name, path.name, line)
        keys.write(path)
    seen: Counter[str] = Counter()
    expected: list[tuple[int, int]] = []
    for number, shard in enumerate(names):
        for row, name in enumerate(shard):
            if seen[name]:
                expected.append((number, row))
            seen[name] += 1
    for parts in (1, 7, 64):
        outs = [tmp_path / f"{parts}-{part}.out" for part in range(parts)]
        counts = Counter[str]()
        for part, out in enumerate(outs):
            counts.update(find_repeated(paths, part, parts, out))
        found = np.concatenate([np.load(out) for out in outs], axis=1)
        assert sorted(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected
        assert counts == Counter(str(shard) for shard, _ in expected)
        shard = tmp_path / "shard.jsonl.gz"
        write_documents(shard, [Document(id=name, text="x", source="s") for name in names[3]])
        rename(shard, 3, outs, tmp_path / "out.jsonl.gz")
        again = [document.id for document in read_documents(tmp_path / "out.jsonl.gz")]
        changed = [row for row, name in enumerate(again) if name != names[3][row]]
        assert [(3, row) for row in changed] == [pair for pair in expected if pair[0] == 3]
        assert len(set(again)) == len(again)
    monkeypatch.setattr(unique_ids, "PARTITION", 100)
    assert unique_ids.partitions(250) == 3
