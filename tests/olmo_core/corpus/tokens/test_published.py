"""Token files of others as `tokens`, their index and mixes, against numpy and the files."""

import csv
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.config.load import build, parse
from olmo_core.corpus.index import documents
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.tokens import document_ends, mix, reference, tokenizer, tokens
from olmo_core.corpus.tokens.mix import MixConfig
from olmo_core.corpus.tokens.published import (
    PublishedSource,
    list_files,
    published_dtype,
    published_identity,
)
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.data.document_index import DocumentIndex
from olmo_core.data.manifest import Manifest
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.result import damaged_files
from tests.olmo_core.file_server import FileServer, serving

VOCABULARY, EOS = 900, 0
Rows = list[tuple[int, int, str, str, int]]


def write_tokens(
    path: Path, lengths: Sequence[int], *, rows: bool = True, dtype: str = "<u4", seed: int = 0
) -> np.ndarray:
    """Write a token file as dolma does: documents of these lengths, each with its EOS."""
    rng = np.random.default_rng([seed, len(lengths)])
    ids = rng.integers(EOS + 1, VOCABULARY, sum(lengths), dtype=np.uint32)
    ends = np.cumsum(lengths)
    ids[ends - 1] = EOS
    path.parent.mkdir(parents=True, exist_ok=True)
    ids.astype(dtype).tofile(path)
    if rows:
        starts = (ends - lengths).tolist()
        with gzip.open(path.with_suffix(".csv.gz"), "wt", newline="") as out:
            csv.writer(out).writerows(
                (start, end, f"{path.stem}, {number}", "s3://bucket/shard.json.gz", number + 1)
                for number, (start, end) in enumerate(zip(starts, ends.tolist(), strict=True))
            )
    return ids


def rows_of(path: Path) -> Rows:
    with gzip.open(path, "rt", newline="") as lines:
        return [(int(a), int(b), name, src, int(loc)) for a, b, name, src, loc in csv.reader(lines)]


@pytest.fixture(scope="session")
def released_run(tmp_path_factory: pytest.TempPathFactory, tokenizer_run: Path, run) -> Path:
    """A released tokenizer, in a recipe without text."""
    config = TokenizerConfig(vocab_size=VOCABULARY, file=str(tokenizer_run / "tokenizer.json"))
    return run(tokenizer, tmp_path_factory.mktemp("released") / "tokenizer", config, {})


@pytest.fixture
def make(tmp_path: Path, released_run: Path, run) -> Callable[..., Path]:
    """A function that runs `tokens` over published sources alone."""

    def make(*sources: PublishedSource, processes: int = 1, folder: str = "tokens") -> Path:
        config = TokensConfig(published=sources)
        inputs = {"tokenizer": released_run}
        return run(tokens, tmp_path / "root" / "recipe" / folder / "v", config, inputs, processes)

    return make


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as state:
        yield state


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


@pytest.mark.parametrize("processes", [1, 2])
def test_local_files_by_reference(tmp_path: Path, make, monkeypatch, processes: int) -> None:
    monkeypatch.setattr(reference, "READ_TOKENS", 7)
    data = tmp_path / "data"
    with_rows = write_tokens(data / "a" / "x" / "part-1-00000.npy", [5, 1, 9])
    without = write_tokens(data / "a" / "y" / "part-1-00000.npy", [1, 8, 3], rows=False, seed=1)
    without[-1] = 5  # the last document has no end
    without.astype("<u4").tofile(data / "a" / "y" / "part-1-00000.npy")
    other = write_tokens(data / "b.npy", [4, 4], rows=False, seed=2)
    made = make(
        PublishedSource(
            source="a", paths=(f"{data}/a/**/*.npy",), dtype="uint32", licence="ODC-By"
        ),
        PublishedSource(source="b", paths=(f"{data}/b.npy",), dtype="uint32"),
        processes=processes,
    )
    found = sorted((made / "tokens").rglob("*.npy"))
    names = ["a/part-0-00000", "a/part-0-00001", "b/part-0-00000"]
    assert [path.relative_to(made / "tokens").with_suffix("").as_posix() for path in found] == names
    for path, expected in zip(found, (with_rows, without, other), strict=True):
        assert path.is_symlink()
        assert np.fromfile(path, "<u4").tolist() == expected.tolist()
    assert rows_of(made / "tokens/a/part-0-00000.csv.gz") == rows_of(
        data / "a/x/part-1-00000.csv.gz"
    )
    src = "part-1-00000.npy"
    assert rows_of(made / "tokens/a/part-0-00001.csv.gz") == [
        (0, 1, "a/part-0-00001:1", src, 1),
        (1, 9, "a/part-0-00001:2", src, 2),
        (9, 12, "a/part-0-00001:3", src, 3),
    ]
    header = read_json(made / "tokens/a/part-0-00001.json")
    assert (header["tokens"], header["documents"], header["dtype"]) == (12, 3, "uint32")
    report = read_json(made / "result.json")["report"]
    assert report["tables"]["sources"] == [
        {
            "source": "a",
            "documents": 6,
            "tokens": 27,
            "share": 0.7714,
            "tokens_as_listed": 27,
            "files": 2,
            "documents_by": "EOS, csv.gz",
        },
        {
            "source": "b",
            "documents": 2,
            "tokens": 8,
            "share": 0.2286,
            "tokens_as_listed": 8,
            "files": 1,
            "documents_by": "EOS",
        },
    ]
    assert report["numbers"] == {"documents": 8, "tokens": 35, "files": 3}
    assert report["data"]["dtype"] == "uint32"
    listed = read_json(made / "published.json")["files"]
    assert [(each["file"], each["sha256"]) for each in listed] == [
        (f"tokens/{name}.npy", hashlib.sha256(path.read_bytes()).hexdigest())
        for name, path in zip(names, found, strict=True)
    ]


def test_one_and_two_processes_write_the_same(tmp_path: Path, make) -> None:
    for number in range(5):
        write_tokens(tmp_path / "data" / f"{number}.npy", [3] * 40, rows=number % 2 > 0)
    source = PublishedSource(source="a", paths=(f"{tmp_path}/data/*.npy",), dtype="uint32")
    digests = [
        read_json(make(source, processes=n, folder=f"of{n}") / "result.json")["digest"]
        for n in (1, 2)
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("ended", [0, 2, 4])
def test_a_job_that_was_ended_goes_on_where_it_was(
    tmp_path: Path, make, monkeypatch, ended: int
) -> None:
    """Ended while it names its files; the files that were read whole are not read again."""
    for number in range(5):
        write_tokens(tmp_path / "data" / f"{number}.npy", [3] * 40, rows=number % 2 > 0)
    source = PublishedSource(source="a", paths=(f"{tmp_path}/data/*.npy",), dtype="uint32")
    place, placed = reference._place, list[Path]()

    def fails(of: reference.Reference, made: Path, target: Path) -> None:
        if len(placed) == ended:
            raise RuntimeError("killed")
        placed.append(target)
        place(of, made, target)

    monkeypatch.setattr(reference, "_place", fails)
    with pytest.raises(RuntimeError, match="killed"):
        make(source)
    monkeypatch.undo()
    monkeypatch.setattr(reference, "scan", None)
    again = read_json(make(source) / "result.json")
    monkeypatch.undo()
    assert again["digest"] == read_json(make(source, folder="at_once") / "result.json")["digest"]


def test_a_linked_file_that_changes_is_seen(tmp_path: Path, make) -> None:
    path = tmp_path / "a.npy"
    write_tokens(path, [5, 9])
    made = make(PublishedSource(source="a", paths=(str(path),), dtype="uint32"))
    assert damaged_files(RunFolder(made)) == []
    ids = np.fromfile(path, "<u4")
    ids[3] += 1
    ids.tofile(path)
    after = (made / "result.json").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(after, after))
    (wrong,) = damaged_files(RunFolder(made))
    assert wrong.endswith("tokens/a/part-0-00000.npy: changed since it was made")
    path.unlink()
    (wrong,) = damaged_files(RunFolder(made))
    assert wrong.endswith("tokens/a/part-0-00000.npy: gone")


def official(path: Path, urls: Sequence[str], dtype: str = "uint32") -> Path:
    """Write a training file with the shape of OLMo's official ones."""
    lines = "\n".join(f"    - {url}" for url in urls)
    path.write_text(
        "run_name: OLMo2-7B-stage1\nseed: 6198\n\nmodel:\n  d_model: 64\n\n"
        "device_eval_batch_size: ${device_train_microbatch_size}\n\n"
        "data:\n  pad_direction: right\n  # generate_doc_lengths: true\n  num_workers: 32\n"
        f"  drop_last: true\n  memmap_dtype: {dtype}\n  paths:\n"
        f"    # SOURCE: dclm (1.2BT)\n{lines}\n"
    )
    return path


def test_an_official_list_from_a_server(tmp_path: Path, server: FileServer, make) -> None:
    """Two sources by patterns; a file that is listed twice is fetched once, and read twice."""
    names = ["dclm/a/part-0.npy", "dclm/b/part-0.npy", "dclm/a/part-0.npy", "wiki/part-0.npy"]
    ids = {
        name: write_tokens(
            server.folder / name, [7, 6, 5], rows=name.startswith("dclm/a"), seed=place
        )
        for place, name in enumerate(sorted(set(names)))
    }
    yaml = official(tmp_path / "official.yaml", [f"{server.url}/{name}" for name in names])
    server.faults = ["500", "", "429", "", "", "short", "cut"]  # of which order does not matter
    monkey = pytest.MonkeyPatch()
    monkey.setattr("olmo_core.remote.storage.PAUSES_SECONDS", (0.0,) * 5)
    dclm = PublishedSource(source="dclm", official=str(yaml), matching=("*/dclm/*",))
    wiki = PublishedSource(source="wiki", official=str(yaml), matching=("*/wiki/*",))
    with monkey.context():
        made = make(dclm, wiki)
    monkey.undo()
    contents = {
        path.relative_to(made / "tokens").as_posix(): np.fromfile(path, "<u4").tolist()
        for path in (made / "tokens").rglob("*.npy")
    }
    assert contents == {
        "dclm/part-0-00000.npy": ids["dclm/a/part-0.npy"].tolist(),
        "dclm/part-0-00001.npy": ids["dclm/b/part-0.npy"].tolist(),
        "wiki/part-0-00000.npy": ids["wiki/part-0.npy"].tolist(),
    }
    row, _ = read_json(made / "result.json")["report"]["tables"]["sources"]
    assert (row["tokens"], row["tokens_as_listed"], row["files"]) == (36, 54, 2)
    assert rows_of(made / "tokens/wiki/part-0-00000.csv.gz")[1] == (
        *(7, 13, "wiki/part-0-00000:2", f"{server.url}/wiki/part-0.npy"),
        2,
    )
    assert not any(path.is_symlink() for path in made.rglob("*"))
    asked = len(server.requests)
    again = make(dclm, wiki, folder="again")
    assert read_json(again / "result.json")["digest"] == read_json(made / "result.json")["digest"]
    new = [part for path, part in server.requests[asked:] if path.endswith((".npy", ".csv.gz"))]
    assert set(new) == {"bytes=0-0"}, "only whether anything has changed"
    shutil.rmtree(tmp_path / "root" / "cache")
    assert damaged_files(RunFolder(made)) == []


def test_the_rows_of_a_url_with_a_query(server: FileServer, make) -> None:
    """As the hub gives them: `…/part-0.npy?download=true`."""
    write_tokens(server.folder / "part-0.npy", [7, 6, 5])
    url = f"{server.url}/part-0.npy?download=true"
    made = make(PublishedSource(source="a", paths=(url,), dtype="uint32"))
    rows = rows_of(server.folder / "part-0.csv.gz")
    assert rows_of(made / "tokens/a/part-0-00000.csv.gz") == rows


def test_one_url_may_serve_two_sources(server: FileServer, make) -> None:
    ids = write_tokens(server.folder / "wiki.npy", [7, 6, 5])
    paths = (f"{server.url}/wiki.npy",)
    made = make(*(PublishedSource(source=n, paths=paths, dtype="uint32") for n in ("a", "b")))
    for name in ("a", "b"):
        assert np.fromfile(made / f"tokens/{name}/part-0-00000.npy", "<u4").tolist() == [*ids]


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


def damage(name: str, path: Path) -> None:
    """Make a file, or its rows, something else."""
    rows = path.with_suffix(".csv.gz")
    lines = rows_of(rows)
    ids = np.fromfile(path, "<u4")
    if name == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif name == "id":
        ids[11] = VOCABULARY
        ids.tofile(path)
    elif name == "no EOS":
        ids[ids == EOS] = 1
        ids.tofile(path)
    elif name == "numpy":
        with path.open("wb") as out:
            np.save(out, ids)
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "longer":
        np.append(ids, ids).tofile(path)
    elif name == "other ends":
        ids = np.roll(ids, 1)
        ids.tofile(path)
    elif name == "header":
        header = {"schema_version": 1, "dtype": "uint32", "tokens": len(ids), "documents": 3}
        more = {"vocab_size": VOCABULARY, "tokenizer_sha256": "0" * 64, "eos_token_id": EOS}
        path.with_suffix(".json").write_text(json.dumps({**header, **more}))
    elif name == "torn rows":
        rows.write_bytes(rows.read_bytes()[:-12])
    else:
        changed: Any = {
            "gap": [lines[0], (6, 20, *lines[1][2:]), lines[2]],
            "missing row": [lines[0], lines[2]],
            "fewer rows": lines[:2],
            "letters": [("x", *lines[0][1:]), *lines[1:]],
        }[name]
        with gzip.open(rows, "wt", newline="") as out:
            csv.writer(out).writerows(changed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut", r"a\.npy: .* bytes is no multiple of 4 \(uint32\)"),
        ("id", r"a\.npy: token 11 is 900; expected ids below 900, of the recipe's tokenizer"),
        ("no EOS", r"a\.npy: no token is 0, which ends documents"),
        ("numpy", r"a\.npy: .*numpy\.save"),
        ("empty", r"a\.npy: empty"),
        ("longer", r"a\.csv\.gz: its rows end at token 35; the token file has 70"),
        ("other ends", r"a\.csv\.gz: 3 of 3 documents do not end in token 0"),
        ("header", r"a\.npy: written by tokenizer 000000000000, the recipe's is"),
        ("gap", r"a\.csv\.gz:2: tokens \[6, 20\), expected to start at 5"),
        ("missing row", r"a\.csv\.gz:2: tokens \[20, 35\), expected to start at 5"),
        ("fewer rows", r"a\.csv\.gz: its rows end at token 20; the token file has 35"),
        ("letters", r"a\.csv\.gz: .*'x'.*expected rows start,end,id,src,loc"),
        ("torn rows", r"a\.csv\.gz: .*expected rows start,end,id,src,loc"),
    ],
)
def test_files_that_are_not_what_they_should_be(
    tmp_path: Path, make, name: str, message: str
) -> None:
    path = tmp_path / "a.npy"
    write_tokens(path, [5, 15, 15])
    damage(name, path)
    with pytest.raises(InputError, match=message):
        make(PublishedSource(source="a", paths=(str(path),), dtype="uint32"))


def test_rows_are_read_block_by_block(tmp_path: Path, make, monkeypatch) -> None:
    monkeypatch.setattr(document_ends, "_BLOCK_BYTES", 200)
    path = tmp_path / "a.npy"
    write_tokens(path, [5] * 50)
    source = PublishedSource(source="a", paths=(str(path),), dtype="uint32")
    report = read_json(make(source) / "result.json")["report"]
    assert report["numbers"]["documents"] == 50
    rows = rows_of(path.with_suffix(".csv.gz"))
    rows[33] = (rows[33][0] + 1, *rows[33][1:])
    with gzip.open(path.with_suffix(".csv.gz"), "wt", newline="") as out:
        csv.writer(out).writerows(rows)
    with pytest.raises(InputError, match=r"a\.csv\.gz:34: tokens \[166, 170\), expected to start"):
        make(source, folder="again")


def test_a_missing_url_is_named(server: FileServer, make) -> None:
    source = PublishedSource(source="a", paths=(f"{server.url}/none.npy",))
    with pytest.raises(InputError, match=r"/none\.npy: HTTP 404"):
        make(source)


def test_what_the_lists_name(tmp_path: Path, monkeypatch) -> None:
    for name in ("b.npy", "a.npy", "deep/c.npy", "deep/c.csv.gz"):
        write_tokens(tmp_path / name, [3])
    monkeypatch.setenv("DATA", str(tmp_path))
    source = PublishedSource(
        source="x", paths=("${DATA}/**/*.npy", "s3://b/d.npy", "${DATA}/a.npy")
    )
    found = list_files(source)
    names = [str(tmp_path / name) for name in ("a.npy", "b.npy", "deep/c.npy")]
    assert dict(found.times) == dict(zip([*names, "s3://b/d.npy"], (2, 1, 1, 1), strict=True))
    yaml = official(tmp_path / "o.yaml", ["http://h/dclm/1.npy", "/data/2.npy"], "uint16")
    chosen = PublishedSource(source="x", official=str(yaml), matching=("*/dclm/*",))
    assert (dict(list_files(chosen).times), list_files(chosen).dtype) == (
        {"http://h/dclm/1.npy": 1},
        "uint16",
    )
    wide = PublishedSource(source="y", paths=("s3://b/d.npy",), dtype="uint32")
    assert published_dtype([wide], "uint16") == published_dtype([source], "uint32") == "uint32"
    with pytest.raises(ConfigError, match="x uint16, y uint32; expected one dtype"):
        published_dtype([chosen, wide], "uint16")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("paths: [relative.npy]", r"tokens: published: x: 'relative\.npy' .*expected an absolute"),
        ("paths: ['/nowhere/*.npy']", "no such file"),
        ("paths: ['${NOT_SET_ANYWHERE}/a.npy']", "not set: NOT_SET_ANYWHERE"),
        ("official: /nowhere/o.yaml", "expected a training file of OLMo's"),
        ("official: '${HERE}/empty.yaml'", r"empty\.yaml: data\.paths: expected a list"),
        (
            "{official: '${HERE}/o.yaml', matching: ['*/c4/*']}",
            r"matching \['\*/c4/\*'\] is true of none of the 1 data\.paths .* first is http://h/a",
        ),
    ],
)
def test_lists_that_name_nothing(tmp_path: Path, monkeypatch, section: str, message: str) -> None:
    monkeypatch.setenv("HERE", str(tmp_path))
    (tmp_path / "empty.yaml").write_text("data: {memmap_dtype: uint16}\n")
    official(tmp_path / "o.yaml", ["http://h/a.npy"])
    text = section.strip("{}") if section.startswith("{") else section
    tree = parse(f"published: [{{source: x, {text}}}]")
    with pytest.raises(ConfigError, match=message):
        published_identity(build(TokensConfig, tree, where="tokens").published)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{source: ../x, paths: [/a]}", r"source '\.\./x': expected letters"),
        ("{source: x}", "x: expected one of paths and official"),
        ("{source: x, paths: [/a], official: /b}", "x: expected one of paths and official"),
        ("{source: x, paths: [/a], matching: [b]}", "matching chooses of what `official` lists"),
        ("{source: x, paths: [/a], dtype: int64}", "int64"),
        ("{source: x, paths: [/a]}, {source: x, paths: [/b]}", "expected each source once"),
    ],
)
def test_sections_that_cannot_be_meant(section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TokensConfig, parse(f"published: [{section}]"), where="tokens")


def test_the_identity_is_that_of_the_files(tmp_path: Path) -> None:
    def identity(folder: str) -> Any:
        pattern = f"{tmp_path}/{folder}/*.npy"
        return published_identity([PublishedSource(source="x", paths=(pattern,))])

    assert published_identity([]) == {}
    for folder in ("one", "other"):
        write_tokens(tmp_path / folder / "a.npy", [400_000, 9])
    assert identity("one") == identity("other"), "wherever they lie"
    before = identity("one")
    for place in (0, 400_000, 130_000):
        ids = np.fromfile(tmp_path / "one" / "a.npy", "<u4")
        ids[place] += 1
        ids.tofile(tmp_path / "one" / "a.npy")
        assert identity("one") != before
        before = identity("one")
    (tmp_path / "one" / "a.csv.gz").unlink()
    assert identity("one") != before
    urls = PublishedSource(source="x", paths=("https://h/a.npy", "https://h/a.npy"))
    (files,) = published_identity([urls])["published_files"].values()
    assert files == {"dtype": "", "files": [{"times": 2, "url": "https://h/a.npy"}]}
