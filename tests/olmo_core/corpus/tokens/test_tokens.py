import csv
import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from olmo_core.corpus.document import Document, read_documents, shards, write_documents
from olmo_core.corpus.tokens import tokens
from olmo_core.corpus.tokens.tokens import EncodedFile, TokensConfig, shard_numbers
from olmo_core.errors import InputError
from olmo_core.files import read_json, sha256_file, write_json


def outputs(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in (folder / "tokens").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(path: Path) -> list[list[str]]:
    with gzip.open(path.with_suffix(".csv.gz"), "rt", newline="") as lines:
        return list(csv.reader(lines))


def test_ids_are_hugging_faces_and_rows_lead_back(
    filtered: Path, tokenizer_run: Path, tokens_run: Path
) -> None:
    """Every document, in document order, sought through the files as dolma's readers would."""
    tokenizer = Tokenizer.from_file(str(tokenizer_run / "tokenizer.json"))
    for source in ("code", "odd"):
        written = []
        for path in sorted((tokens_run / "tokens" / source).glob("*.npy")):
            ids = np.fromfile(path, "<u2").tolist()
            position = 0
            for start, end, doc_id, src, loc in rows(path):
                assert int(start) == position
                position = int(end)
                written.append((doc_id, src, int(loc), ids[int(start) : int(end)]))
            assert position == len(ids)
        expected = [
            (
                document.id,
                shard.relative_to(filtered).as_posix(),
                line,
                [*tokenizer.encode(document.text, add_special_tokens=False).ids, 0],
            )
            for shard in shards(filtered / "documents" / source)
            for line, document in enumerate(read_documents(shard), start=1)
        ]
        assert written == expected


def test_files_are_full_and_headers_say_what_is_in_them(
    tokenizer_run: Path, tokens_run: Path
) -> None:
    files = sorted((tokens_run / "tokens" / "code").glob("*.npy"))
    assert [path.name for path in files] == [f"part-0-{n:05d}.npy" for n in range(len(files))]
    assert len(files) > 2
    for path in files:
        header = read_json(path.with_suffix(".json"))
        assert header == {
            "schema_version": 1,
            "dtype": "uint16",
            "tokens": path.stat().st_size // 2,
            "documents": len(rows(path)),
            "vocab_size": 900,
            "tokenizer_sha256": sha256_file(tokenizer_run / "tokenizer.json"),
            "eos_token_id": 0,
        }
        assert header["tokens"] <= 50_000
    for path, following in itertools.pairwise(files):
        room = 50_000 - path.stat().st_size // 2
        assert int(rows(following)[0][1]) > room


@pytest.mark.parametrize("processes", [2, 4])
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, tokens_run: Path, run, processes: int
) -> None:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    config = TokensConfig(max_tokens_per_file=50_000)
    again = run(tokens, tmp_path / "again", config, inputs, processes)
    assert outputs(again) == outputs(tokens_run)


def test_what_it_reports(tokens_run: Path) -> None:
    result = read_json(tokens_run / "result.json")
    report = result["report"]
    sizes = {
        source: sum(p.stat().st_size // 2 for p in (tokens_run / "tokens" / source).glob("*.npy"))
        for source in ("code", "odd")
    }
    assert report["data"]["tokens"] == sizes
    assert report["numbers"]["tokens"] == sum(sizes.values())
    assert report["numbers"]["encoded_by"] == "tiktoken"
    assert {row["source"]: row["tokens"] for row in report["tables"]["sources"]} == sizes
    assert not (tokens_run / "work").exists()
    assert set(result["files"]) == set(outputs(tokens_run))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (10, [[4, 3], [5], [12], [2, 2, 6], [1]]),
        (1, [[4], [3], [5], [12], [2], [2], [6], [1]]),
        (100, [[4, 3, 5, 12, 2, 2, 6, 1]]),
    ],
)
def test_a_document_longer_than_a_file_has_one_of_its_own(limit: int, expected) -> None:
    lengths = [4, 3, 5, 12, 2, 2, 6, 1]
    pairs = zip(shard_numbers(lengths, limit), lengths, strict=True)
    groups = itertools.groupby(pairs, key=lambda pair: pair[0])
    assert [[length for _, length in group] for _, group in groups] == expected


def test_a_large_vocabulary_is_written_in_uint32(
    tmp_path: Path, filtered: Path, tokenizer_run: Path
) -> None:
    small = tokens.empty_header(tokenizer_run)
    header = replace(small, vocab_size=70_000, eos_token_id=69_999)
    shard = shards(filtered / "documents" / "odd")[0]
    encoded = tokens.encode_file(shard, tokenizer_run / "tokenizer.json", header, tmp_path / "ids")
    ids = np.fromfile(tmp_path / "ids", "<u4")
    assert ids[np.cumsum(encoded["lengths"]) - 1].tolist() == [69_999] * 10


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "gzip"),
        (lambda path: _append(path, b'{"id": "code/x", "text": \n'), "not valid JSON"),
        (lambda path: _append(path, b'{"id": "code/x", "source": "code"}\n'), "'text' is missing"),
        (
            lambda path: _append(path, b'{"id": "code/x", "text": "", "source": "code"}\n'),
            "empty document",
        ),
        (lambda path: _append(path, b'{"id": "\xff"}\n'), "UTF-8"),
    ],
)
def test_bad_documents_stop_it_with_their_place(
    tmp_path: Path, tokenizer_run: Path, run, damage, message: str
) -> None:
    path = tmp_path / "filtered" / "documents" / "code" / "part-00000.jsonl.gz"
    texts = [Document(id=f"code/{n}", text=f"text {n}" * 9, source="code") for n in range(20)]
    write_documents(path, texts)
    write_json(tmp_path / "filtered" / "result.json", {"digest": "of these texts"})
    damage(path)
    inputs = {"filtered": tmp_path / "filtered", "tokenizer": tokenizer_run}
    with pytest.raises(InputError, match=message) as error:
        run(tokens, tmp_path / "run", TokensConfig(), inputs)
    assert str(path) in str(error.value)
    assert not (tmp_path / "run" / "result.json").exists()


def _append(path: Path, line: bytes) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + line))


def test_counts_that_do_not_add_up_are_an_error(
    tmp_path: Path, filtered: Path, tokenizer_run: Path
) -> None:
    header = tokens.empty_header(tokenizer_run)
    shard = shards(filtered / "documents" / "odd")[0]
    rows = tokens.encode_file(shard, tokenizer_run / "tokenizer.json", header, tmp_path / "ids")
    encoded = EncodedFile(path=tmp_path / "ids", src="", **rows)
    assert tokens.write_source([encoded], 1 << 30, header, tmp_path / "odd") == 1
    with pytest.raises(
        RuntimeError, match=r"20 documents of \d+ tokens encoded, 10 of \d+ written"
    ):
        tokens.check_source(tmp_path / "odd", [encoded, encoded], header)
    beside = tmp_path / "odd" / "part-0-00000.json"
    beside.write_text(json.dumps(read_json(beside) | {"tokens": 1}))
    with pytest.raises(InputError, match="header says 1 tokens"):
        tokens.check_source(tmp_path / "odd", [encoded], header)
