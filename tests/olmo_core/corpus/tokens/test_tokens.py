import csv
import gzip
import hashlib
import itertools
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from olmo_core.config.load import build
from olmo_core.corpus.document import Document, read_documents, shards, write_documents
from olmo_core.corpus.tokens import encode, pack, tokenizer, tokens
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, sha256_file, write_json


@pytest.fixture(scope="module")
def shuffled_run(
    tmp_path_factory: pytest.TempPathFactory, filtered: Path, tokenizer_run: Path, run
) -> Path:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    folder = tmp_path_factory.mktemp("run") / "shuffled"
    return run(tokens, folder, TokensConfig(max_tokens_per_file=50_000), inputs)


def outputs(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in (folder / "tokens").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(path: Path) -> list[list[str]]:
    with gzip.open(path.with_suffix(".csv.gz"), "rt", newline="") as lines:
        return list(csv.reader(lines))


def documents_of(folder: Path, source: str) -> list[tuple[str, str, int, list[int]]]:
    """Id, file, line and ids of each document of a source, sought as dolma's readers would."""
    found = []
    for path in sorted((folder / "tokens" / source).glob("*.npy")):
        ids = np.fromfile(path, "<u2").tolist()
        position = 0
        for start, end, doc_id, src, loc in rows(path):
            assert int(start) == position
            position = int(end)
            found.append((doc_id, src, int(loc), ids[int(start) : int(end)]))
        assert position == len(ids)
    return found


def expected_documents(filtered: Path, run: Path, source: str) -> list[Any]:
    """The same by Hugging Face, in the order of the document files."""
    hugging_face = Tokenizer.from_file(str(run / "tokenizer.json"))
    return [
        (
            document.id,
            shard.relative_to(filtered).as_posix(),
            line,
            [*hugging_face.encode(document.text, add_special_tokens=False).ids, 0],
        )
        for shard in shards(filtered / "documents" / source)
        for line, document in enumerate(read_documents(shard), start=1)
    ]


def shuffled(documents: list[Any], seed: int) -> list[Any]:
    def digest(document: Any) -> int:
        key = seed.to_bytes(8, "little")
        content = document[0].encode()
        return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "little")

    return sorted(documents, key=digest)


def test_ids_are_hugging_faces_and_rows_lead_back(
    filtered: Path, tokenizer_run: Path, shuffled_run: Path
) -> None:
    """Every document, in the order of a hash of its id, over all files of its source."""
    for source in ("code", "odd"):
        expected = expected_documents(filtered, tokenizer_run, source)
        assert documents_of(shuffled_run, source) == shuffled(expected, 0)


def test_another_seed_is_another_order(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run
) -> None:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    folder = run(tokens, tmp_path / "run", TokensConfig(seed=7), inputs)
    expected = expected_documents(filtered, tokenizer_run, "code")
    assert documents_of(folder, "code") == shuffled(expected, 7) != shuffled(expected, 0)


def test_a_seed_fits_the_key_of_the_order(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run
) -> None:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    folder = run(tokens, tmp_path / "run", TokensConfig(seed=2**64 - 1), inputs)
    expected = expected_documents(filtered, tokenizer_run, "odd")
    assert documents_of(folder, "odd") == shuffled(expected, 2**64 - 1)
    with pytest.raises(ConfigError, match=rf"seed is {2**64}; expected {2**64 - 1} or"):
        build(TokensConfig, {"seed": 2**64}, where="tokens")


def test_the_result_of_its_input_is_read_once(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names every file, so that reading it per file takes time by the square of their number."""
    seen: list[Path] = []
    monkeypatch.setattr(tokens, "read_json", lambda path: (seen.append(path), read_json(path))[1])
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    run(tokens, tmp_path / "run", TokensConfig(max_tokens_per_file=50_000), inputs)
    assert seen.count(filtered / "result.json") == 1


def test_as_read_is_the_order_of_the_document_files(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run
) -> None:
    """The bytes of one file, and of files that are filled one after the other."""
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    expected = expected_documents(filtered, tokenizer_run, "code")
    ids = [number for document in expected for number in document[3]]
    config = TokensConfig(document_order="as_read")
    whole = run(tokens, tmp_path / "whole", config, inputs)
    path = whole / "tokens" / "code" / "part-0-00000.npy"
    assert path.read_bytes() == np.asarray(ids, "<u2").tobytes()
    config = TokensConfig(document_order="as_read", max_tokens_per_file=50_000)
    folder = run(tokens, tmp_path / "parts", config, inputs)
    assert documents_of(folder, "code") == expected
    files = sorted((folder / "tokens" / "code").glob("*.npy"))
    for path, following in itertools.pairwise(files):
        room = 50_000 - path.stat().st_size // 2
        assert int(rows(following)[0][1]) > room


def test_files_are_full_and_headers_say_what_is_in_them(
    tokenizer_run: Path, shuffled_run: Path
) -> None:
    files = sorted((shuffled_run / "tokens" / "code").glob("*.npy"))
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


@pytest.mark.parametrize("processes", [2, 4])
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, shuffled_run: Path, run, processes: int
) -> None:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    config = TokensConfig(max_tokens_per_file=50_000)
    again = run(tokens, tmp_path / "again", config, inputs, processes)
    assert outputs(again) == outputs(shuffled_run)


def test_what_it_reports(shuffled_run: Path) -> None:
    result = read_json(shuffled_run / "result.json")
    report = result["report"]
    sizes = {
        source: sum(p.stat().st_size // 2 for p in (shuffled_run / "tokens" / source).glob("*.npy"))
        for source in ("code", "odd")
    }
    assert report["data"]["tokens"] == sizes
    assert report["numbers"]["tokens"] == sum(sizes.values())
    assert report["numbers"]["encoded_by"] == "tiktoken"
    assert {row["source"]: row["tokens"] for row in report["tables"]["sources"]} == sizes
    assert not (shuffled_run / "work").exists()
    assert set(result["files"]) == set(outputs(shuffled_run))


def test_a_source_may_be_sorted_in_pieces(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    whole = run(tokens, tmp_path / "whole", TokensConfig(), inputs)
    monkeypatch.setattr(pack, "PIECE_TOKENS", 10_000)
    pieces = run(tokens, tmp_path / "pieces", TokensConfig(), inputs)
    assert outputs(pieces) == outputs(whole)


def test_files_and_pieces() -> None:
    million = 1_000_000
    assert pack.pieces_of(5 * million, 5 * million) == (1, 1)
    assert pack.pieces_of(200 * million, 1 << 30) == (1, 6)  # of 2 ** 25 tokens at most
    assert pack.pieces_of(1000 * million, 100 * million) == (11, 3)
    assert pack.pieces_of(10, 1) == (10, 1)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (10, [[4, 3], [5], [12], [2, 2, 6], [1]]),
        (1, [[4], [3], [5], [12], [2], [2], [6], [1]]),
        (100, [[4, 3, 5, 12, 2, 2, 6, 1]]),
    ],
)
def test_a_document_longer_than_a_file_has_one_of_its_own(
    tmp_path: Path, tokenizer_run: Path, limit: int, expected
) -> None:
    header = tokens.encoding(TokensConfig(), tokenizer_run).header
    lengths = [4, 3, 5, 12, 2, 2, 6, 1]
    documents = [(bytes(2 * length), f"{n}", "src", n) for n, length in enumerate(lengths)]
    counts = pack.write_files(iter(documents), limit, header, tmp_path / "run")
    files = sorted((tmp_path / "run").glob("*.npy"))
    found = [[int(row[1]) - int(row[0]) for row in rows(path)] for path in files]
    assert found == expected
    assert counts == {"files": len(files), "documents": 8, "tokens": 35}


def test_rows_are_written_as_they_come(
    tmp_path: Path, tokenizer_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token file has millions of documents: their rows are not held until its end."""
    monkeypatch.setattr(pack, "_CHECKED", 1 << 10)
    header = tokens.encoding(TokensConfig(), tokenizer_run).header
    documents = (
        (bytes(2), f"a document's id {n}", "the file that it is of", n) for n in range(9999)
    )
    tracemalloc.start()
    counts = pack.write_files(documents, 1 << 30, header, tmp_path / "run")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts == {"files": 1, "documents": 9999, "tokens": 9999}
    assert len(rows(tmp_path / "run" / "part-0-00000.npy")) == 9999
    assert peak_bytes < 1_000_000


def test_documents_of_one_key_keep_the_order_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "order_key", lambda name, seed: int(name[0]) << 60)
    parts = {}
    for shard in ("one", "two"):
        documents = [(f"{n}{shard}{m}", np.asarray([n, m], "<u2")) for n in (9, 0) for m in (1, 2)]
        pack.write_shard(tmp_path / shard, documents, seed=0)
        parts[shard] = tmp_path / shard
    for of in (1, 2, 16):
        found = list(pack.read_range(parts, range(of), of, shuffled=True))
        names = [f"{n}{shard}{m}" for n in (0, 9) for shard in ("one", "two") for m in (1, 2)]
        assert [name for _, name, _, _ in found] == names
        assert [np.frombuffer(ids, "<u2").tolist() for ids, *_ in found] == [
            [int(name[0]), int(name[-1])] for name in names
        ]
        assert [line for *_, line in found] == [3, 4, 3, 4, 1, 2, 1, 2]


def test_a_job_that_ended_while_it_named_its_files_makes_the_same(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, shuffled_run: Path, run, monkeypatch
) -> None:
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    config = TokensConfig(max_tokens_per_file=50_000)
    link_files = tokens.link_files

    def fails(folders: Any, target: Path) -> None:
        link_files(folders, target)
        raise RuntimeError("killed")

    monkeypatch.setattr(tokens, "link_files", fails)
    with pytest.raises(RuntimeError, match="killed"):
        run(tokens, tmp_path / "run", config, inputs)
    monkeypatch.undo()
    monkeypatch.setattr(encode, "_encoder", None)  # what is finished is not done again
    assert outputs(run(tokens, tmp_path / "run", config, inputs)) == outputs(shuffled_run)


def test_a_large_vocabulary_is_written_in_uint32(
    tmp_path: Path, filtered: Path, tokenizer_run: Path
) -> None:
    how = tokens.encoding(TokensConfig(document_order="as_read"), tokenizer_run)
    how = replace(how, header=replace(how.header, vocab_size=70_000, eos_token_id=69_999))
    shard = shards(filtered / "documents" / "odd")[0]
    counts = tokens.encode_file(shard, how, tmp_path / "ids")
    found = pack.read_range({"odd": tmp_path / "ids"}, range(1), 1, shuffled=False)
    last = [np.frombuffer(ids, "<u4")[-1] for ids, *_ in found]
    assert (last, counts["documents"]) == ([69_999] * 10, 10)


def test_bos_strip_and_escaped_special_tokens(tmp_path: Path, filtered: Path, run) -> None:
    """Against Hugging Face's own switch, on the texts that dolma strips."""
    config = TokenizerConfig(vocab_size=400, bos_token="<|begin|>")
    trained = run(tokenizer, tmp_path / "tokenizer", config, {"filtered": filtered})
    inputs = {"filtered": filtered, "tokenizer": trained}
    plain = run(tokens, tmp_path / "plain", TokensConfig(), inputs)
    config = TokensConfig(strip=True, special_tokens="escape", document_order="as_read")
    other = run(tokens, tmp_path / "other", config, inputs)
    hugging_face = Tokenizer.from_file(str(trained / "tokenizer.json"))
    found = documents_of(plain, "odd")
    shard = shards(filtered / "documents" / "odd")[0]
    texts = {each.id: each.text for each in read_documents(shard)}
    for name, _, _, ids in found:
        assert ids == [2, *hugging_face.encode(texts[name], add_special_tokens=False).ids, 0]
    hugging_face.encode_special_tokens = True
    for name, _, _, ids in documents_of(other, "odd"):
        inner = hugging_face.encode(texts[name].strip(), add_special_tokens=False).ids
        assert ids == [2, *inner, 0]
        assert not {0, 1, 2} & set(inner)
    assert any({0, 1} <= set(ids[1:-1]) for *_, ids in found)


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
    how = tokens.encoding(TokensConfig(), tokenizer_run)
    shard = shards(filtered / "documents" / "odd")[0]
    encoded = tokens.encode_file(shard, how, tmp_path / "ids" / "000000")
    source = filtered / "documents" / "odd"
    written = tokens.join_files(source, tmp_path / "ids", range(1), 1, how, tmp_path / "odd")
    tokens.require_equal("odd", encoded, written)
    with pytest.raises(RuntimeError, match=r"10 documents of \d+ tokens encoded, 9 of \d+ written"):
        tokens.require_equal("odd", encoded, {**written, "documents": 9})
    path = tmp_path / "odd" / "part-0-00000.npy"
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(read_json(beside) | {"tokens": 1}))
    with pytest.raises(InputError, match="header says 1 tokens"):
        pack.check_file(path, how.header)
    beside.write_text(json.dumps(read_json(beside) | {"tokens": 2}))
    path.write_bytes(np.asarray([901, 0], "<u2").tobytes())
    with pytest.raises(RuntimeError, match="id 901: beyond 900"):
        pack.check_file(path, how.header)
    path.write_bytes(np.asarray([0, 5], "<u2").tobytes())
    with pytest.raises(RuntimeError, match="does not end with an EOS"):
        pack.check_file(path, how.header)
