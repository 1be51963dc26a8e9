"""In which documents two indexes differ, against dictionaries."""

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.data.document_index import (
    IDS,
    ROW_GROUP,
    ROW_SCHEMA,
    key_of,
    partition_of,
    write_sorted,
)
from olmo_core.errors import InputError
from olmo_core.lineage.documents import MOST_IDS, DocumentSet, compare_documents

Texts = Mapping[str, str | None]  # by id; None: of a published token file


def write_index(folder: Path, texts: Texts, parts: int, repeated: int = 0) -> Path:
    """Write the part of an index that is sorted by the digests of ids."""
    (folder / IDS).mkdir(parents=True)
    ids = sorted([*texts, *list(texts)[:repeated]], key=key_of)
    keys = np.array([key_of(id) for id in ids], np.uint64)
    whose = partition_of(keys, parts)
    for part in range(parts):
        rows = [row_of(id, texts[id]) for id, at in zip(ids, whose, strict=True) if at == part]
        table: Any = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
        path = folder / IDS / f"part-{part:05d}.parquet"
        write_sorted(path, table, by="key", row_group=ROW_GROUP)
    return folder


def row_of(id: str, text: str | None) -> dict[str, Any]:
    known = {} if text is None else {"sha1": hashlib.sha1(text.encode()).digest()}
    place = {"file": "f", "start": 10, "end": 10 + len(id), "src": "s", "loc": 1}
    return {"key": key_of(id), "id": id, "source": id.partition("/")[0], **place, **known}


def counts(found: DocumentSet) -> dict[str, tuple[int, int]]:
    return {name: (each.documents, each.tokens) for name, each in found.sources.items()}


def expected(ids: set[str]) -> dict[str, tuple[int, int]]:
    sources = {id.partition("/")[0] for id in ids}
    of = {source: [id for id in ids if id.startswith(f"{source}/")] for source in sources}
    return {source: (len(own), sum(map(len, own))) for source, own in of.items()}


@pytest.mark.parametrize(("parts", "others"), [(1, 1), (4, 4), (1, 8), (4, 2)])
def test_documents_of_one_index_alone_and_other_texts(
    tmp_path: Path, parts: int, others: int
) -> None:
    drawn = random.Random(parts + others)
    ids = [f"{drawn.choice(('web', 'books', 'wiki'))}/{number}" for number in range(500)]
    old = {id: f"text of {id}" for id in ids if drawn.random() < 0.9}
    new = {id: drawn.choice((f"text of {id}", "another")) for id in ids if drawn.random() < 0.8}
    a, b = write_index(tmp_path / "a", old, parts), write_index(tmp_path / "b", new, others)
    found = compare_documents(a, b)
    assert counts(found.first) == expected(old.keys() - new.keys())
    assert counts(found.second) == expected(new.keys() - old.keys())
    changed = {id for id in old.keys() & new.keys() if old[id] != new[id]}
    assert counts(found.changed) == expected(changed)
    assert len(found.first.ids) == MOST_IDS
    assert set(found.first.ids) <= old.keys() - new.keys()
    assert found.first.ids == sorted(old.keys() - new.keys(), key=key_of)[:MOST_IDS]
    assert found.sources == ["books", "web", "wiki"]


def test_equal_indexes_differ_in_nothing(tmp_path: Path) -> None:
    texts = {f"web/{number}": "x" for number in range(50)}
    a, b = write_index(tmp_path / "a", texts, 1), write_index(tmp_path / "b", texts, 2)
    found = compare_documents(a, b)
    assert not found.sources
    assert found.first.documents == found.second.documents == found.changed.documents == 0


def test_an_id_that_is_given_twice_is_one_document(tmp_path: Path) -> None:
    texts = {f"web/{number}": "x" for number in range(9)}
    a = write_index(tmp_path / "a", texts, 1, repeated=4)
    found = compare_documents(a, write_index(tmp_path / "b", {"web/0": "x"}, 1))
    assert found.first.documents == 8
    assert len(set(found.first.ids)) == len(found.first.ids) == MOST_IDS


def test_of_published_tokens_no_text_is_said_to_differ(tmp_path: Path) -> None:
    texts: Texts = {f"web/{number}": "x" for number in range(9)}
    a = write_index(tmp_path / "a", texts, 1)
    found = compare_documents(a, write_index(tmp_path / "b", dict.fromkeys(texts), 1))
    assert not found.sources


def test_an_empty_side_and_what_is_no_index(tmp_path: Path) -> None:
    a = write_index(tmp_path / "a", {"web/1": "x"}, 1)
    assert compare_documents(write_index(tmp_path / "b", {}, 1), a).second.documents == 1
    with pytest.raises(InputError, match="not a documents index"):
        compare_documents(a, tmp_path)
