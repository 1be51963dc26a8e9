"""What is made from published token files: beside texts, in the index and in mixes."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.tokens import mix, tokens
from olmo_core.corpus.tokens.mix import MixConfig
from olmo_core.corpus.tokens.published import PublishedSource
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.data.document_index import DocumentIndex
from olmo_core.data.manifest import Manifest
from olmo_core.errors import ConfigError
from olmo_core.files import read_json
from tests.olmo_core.corpus.tokens.token_files import EOS, VOCABULARY, rows_of, write_tokens


def test_a_tokenizer_without_text(released_run: Path, tokenizer_run: Path) -> None:
    report = read_json(released_run / "result.json")["report"]
    assert report["numbers"] == {
        "vocab_size": VOCABULARY,
        "trained_on_documents": 0,
        "trained_on_bytes": 0,
        "shortened_pretokens": 0,
    }
    assert report["data"]["eos_token_id"] == EOS
    tokenizers = [path / "tokenizer.json" for path in (released_run, tokenizer_run)]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()


def test_beside_texts(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, tokens_run: Path, run
) -> None:
    """Sources of both kinds in one recipe: text as without the others, files as without text."""
    ids = write_tokens(tmp_path / "a.npy", [5] * 6, dtype="<u2")
    source = PublishedSource(source="more", paths=(str(tmp_path / "a.npy"),))
    config = TokensConfig(max_tokens_per_file=50_000, document_order="as_read", published=(source,))
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    made = run(tokens, tmp_path / "tokens" / "v", config, inputs)
    assert np.fromfile(made / "tokens/more/part-0-00000.npy", "<u2").tolist() == ids.tolist()
    for path in (tokens_run / "tokens").rglob("*.*"):
        assert (made / path.relative_to(tokens_run)).read_bytes() == path.read_bytes()
    inputs = {"tokens": made, "filtered": filtered}
    index = DocumentIndex(run(documents, tmp_path / "index" / "v", DocumentsConfig(), inputs))
    (row,) = index.of_id("a, 3")
    assert (row.source, row.start, row.sha1) == ("more", 15, None)
    report = read_json(made / "result.json")["report"]
    (text,) = index.of_id(rows_of(made / "tokens/odd/part-0-00000.csv.gz")[0][2])
    assert (text.source, text.characters) == ("odd", 1)
    assert report["data"]["published"] == ["more"]
    assert sorted(report["data"]["tokens"]) == ["code", "more", "odd"]
    wide = TokensConfig(published=(PublishedSource(**{**source.__dict__, "dtype": "uint32"}),))
    with pytest.raises(ConfigError, match="uint32; a mix has one dtype, and texts become uint16"):
        run(
            tokens,
            tmp_path / "wide" / "v",
            wide,
            {"filtered": filtered, "tokenizer": tokenizer_run},
        )


def test_a_mix_reads_what_is_listed_twice_twice(
    tmp_path: Path, make, run, released_run: Path
) -> None:
    one, two = (write_tokens(tmp_path / f"{n}.npy", [9] * 30, seed=n) for n in (1, 2))
    paths = tuple(str(tmp_path / f"{n}.npy") for n in (1, 2, 1))
    made = make(PublishedSource(source="a", paths=paths, dtype="uint32"))
    inputs = {"tokens": made}
    whole = run(mix, tmp_path / "mix" / "v", MixConfig(sources={"a": mix.SourceShare()}), inputs)
    manifest = Manifest.read(whole / "manifest.json", root=made)
    (stream,) = manifest.streams
    read = np.concatenate(
        [np.fromfile(made / part.path, "<u4")[part.start : part.stop] for part in stream.ranges]
    )
    assert read.tolist() == [*one, *one, *two]
    assert manifest.open_files(vocab_size=VOCABULARY)
    half = MixConfig(sources={"a": mix.SourceShare(repetitions=0.5)})
    part = run(mix, tmp_path / "half" / "v", half, inputs)
    (stream,) = Manifest.read(part / "manifest.json", root=made).streams
    assert abs(stream.tokens - 3 * 270 / 2) <= 9 / 2
    assert all(each.start % 9 == each.stop % 9 == 0 for each in stream.ranges)


def test_the_index_is_that_of_the_rows(tmp_path: Path, make, run, monkeypatch) -> None:
    """Look-ups by place and id, against the rows; ids that repeat, and rows without one."""
    monkeypatch.setattr(documents, "PARTITION_DOCUMENTS", 8)
    lengths = [3, 1, 4, 1, 5, 9, 2, 6]
    write_tokens(tmp_path / "a" / "same.npy", lengths)
    write_tokens(tmp_path / "b" / "same.npy", lengths[::-1], seed=1)
    write_tokens(tmp_path / "b" / "none.npy", lengths, seed=2)
    rows = rows_of(tmp_path / "b" / "none.csv.gz")
    with gzip.open(tmp_path / "b" / "none.csv.gz", "wt", newline="") as out:
        csv.writer(out).writerows((start, end, "", src, loc) for start, end, _, src, loc in rows)
    made = make(
        PublishedSource(source="a", paths=(f"{tmp_path}/a/*.npy",), dtype="uint32"),
        PublishedSource(source="b", paths=(f"{tmp_path}/b/*.npy",), dtype="uint32"),
    )
    folder = run(documents, tmp_path / "index" / "v", DocumentsConfig(), {"tokens": made})
    assert len(list((folder / "ids").iterdir())) > 1
    index = DocumentIndex(folder)
    seen = 0
    for path in sorted((made / "tokens").rglob("*.csv.gz")):
        file = path.relative_to(made).as_posix().replace(".csv.gz", ".npy")
        for number, (start, end, name, src, loc) in enumerate(rows_of(path)):
            for position in (start, end - 1):
                found = index.at(file, position)
                assert (found.start, found.end, found.src, found.loc) == (start, end, src, loc)
            named = name or f"{file.removeprefix('tokens/').removesuffix('.npy')}:{number + 1}"
            assert found.id == named
            same = index.of_id(named)
            assert {each.file for each in same} == (
                {"tokens/a/part-0-00000.npy", "tokens/b/part-0-00001.npy"} if name else {file}
            )
            (row,) = [each for each in same if each.file == file]
            assert (row.start, row.end, row.source) == (start, end, file.split("/")[1])
            assert (row.url, row.characters, row.text_bytes, row.sha1) == (None,) * 4
            seen += 1
    assert seen == 24
    assert index.of_sha1(b"0" * 20) == index.of_url("https://a") == []
    numbers = read_json(folder / "result.json")["report"]["numbers"]
    assert (numbers["documents"], numbers["repeated_ids"]) == (24, 8)
