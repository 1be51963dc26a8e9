"""Documents of perplexity sets: rows that are refused with file and line, and token files."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from olmo_core.data.format import Header
from olmo_core.errors import InputError
from olmo_core.evals.perplexity.documents import Document, read_texts, read_token_files
from olmo_core.evals.perplexity.survey import limited
from olmo_core.files import sha256_file, write_json


def found(folder: Path) -> list[Document]:
    return [*read_texts([folder / "web" / "val" / "a.jsonl.gz"], source="web")]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "web" / "val" / "a.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


LINE = b'{"id": "1", "text": "x", "added": "", "source": "web"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(LINE * 2000, mtime=0)[:-20], r"a\.jsonl\.gz: the gzip stream is truncated"),
        (b"plain text", "the gzip stream is truncated or damaged after line 0"),
        (gzip.compress(LINE + b'{"id": \n', mtime=0), ":2: not valid JSON"),
        (gzip.compress(LINE + b'{"id": "1"}\n', mtime=0), ":2: key 'text' is missing"),
        (gzip.compress(b'{"text": null}\n'), ":1: key 'text' is a NoneType; expected a string"),
        (gzip.compress(b'{"text": 5}\n'), ":1: key 'text' is a int; expected a string"),
        (gzip.compress(b'{"text": "\\ud800"}\n'), ":1: key 'text' holds a lone surrogate"),
        (
            gzip.compress(b'{"text": "x", "subdomain": "\\udc00"}\n'),
            ":1: key 'subdomain' holds a lone surrogate",
        ),
        (gzip.compress(b'{"text": "x", "id": "\\udc00"}\n'), ":1: key 'id' holds a lone surr"),
        (
            gzip.compress(b'{"text": "x", "subdomain": ["a"]}\n'),
            ":1: key 'subdomain' is a list; expected a string or a whole number",
        ),
        (gzip.compress(b'{"text": "x", "subdomain": false}\n'), ":1: key 'subdomain' is a bool"),
        (gzip.compress(b'["id"]\n', mtime=0), ":1: found list; expected one JSON object"),
        (
            gzip.compress(LINE + b'{"id": "2", "text": "\xff"}\n', mtime=0),
            r"a\.jsonl\.gz:2: byte 0xff .* is not UTF-8",
        ),
    ],
)
def test_bad_documents_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, content)
    with pytest.raises(InputError, match=message):
        found(tmp_path)


def test_names_may_be_numbers_or_missing(tmp_path: Path) -> None:
    lines = [
        b'{"id": 7, "text": "x", "subdomain": 0}',
        b'{"text": "", "subdomain": "py"}',
        b'{"id": null, "text": "y", "subdomain": ""}',
    ]
    write(tmp_path, gzip.compress(b"\n".join(lines)))
    assert found(tmp_path) == [
        Document(id="7", domain="0", text="x"),
        Document(id="a.jsonl.gz:2", domain="py", text=""),
        Document(id="a.jsonl.gz:3", domain="web", text="y"),
    ]


def test_a_source_is_read_up_to_its_bytes() -> None:
    def read() -> Iterator[Document]:
        yield from (Document(id=text, domain="web", text=text) for text in ("é", "x", "y"))

    most = {n: [each.id for each in limited(read, n)] for n in (1, 2, 3, 4, None)}
    assert most == {1: ["é"], 2: ["é"], 3: ["é", "x"], 4: [*"éxy"], None: [*"éxy"]}


def token_file(folder: Path, ids: list[int], *, name: str = "a.npy", dtype: str = "<u2") -> Path:
    path = folder / name
    path.write_bytes(np.array(ids, dtype).tobytes())
    return path


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
def test_token_files_are_taken_apart_at_eos(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("olmo_core.evals.perplexity.documents.BLOCK_TOKENS", block)
    encoder = Tokenizer.from_file(str(tokenizer))
    texts = ["A naïve — mean", "def f():\n", "", "without an end"]
    ids = [encoder.encode(text).ids for text in texts]
    path = token_file(tmp_path, [i for each in ids for i in [*each, 0]][:-1])
    documents = [
        *read_token_files(
            [path], source="web", tokenizer=tokenizer, dtype="", eos_token_id=lambda: 0
        )
    ]
    assert [each.text for each in documents] == texts
    assert [each.id for each in documents] == ["a.npy:1", "a.npy:2", "a.npy:3", "a.npy:4"]
    for document, expected in zip(documents, ids, strict=True):
        assert document.tokens is not None
        assert document.tokens.tolist() == expected
        assert document.domain == "web"


def test_token_files_of_another_tokenizer_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    path = token_file(tmp_path, [5, 9, 0])
    header = Header(
        dtype="uint16",
        tokens=3,
        documents=1,
        vocab_size=400,
        tokenizer_sha256=sha256_file(tokenizer),
        eos_token_id=9,
    )
    write_json(path.with_suffix(".json"), header.to_dict())

    def read(dtype: str = "") -> list[Document]:
        given = {"tokenizer": tokenizer, "dtype": dtype, "eos_token_id": lambda: 0}
        return [*read_token_files([path], source="web", **given)]

    ids = [each.tokens.tolist() for each in read() if each.tokens is not None]
    assert ids == [[5], [0]]  # the header's EOS
    write_json(path.with_suffix(".json"), {**header.to_dict(), "tokenizer_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"a\.npy: its header says tokenizer 000000000000…"):
        read()
    with pytest.raises(InputError, match="its header says uint16"):
        read("uint32")
    path.with_suffix(".json").unlink()
    token_file(tmp_path, [5, 7, 399, 400, 0])
    with pytest.raises(InputError, match=r"a\.npy: id 400 at token 3; expected ids below the 400"):
        read()


@pytest.fixture(scope="module")
def tokenizer(family: Any) -> Path:
    return family.runs["tokenizer"] / "tokenizer.json"
