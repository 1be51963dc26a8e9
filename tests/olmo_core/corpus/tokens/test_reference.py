"""Token files of others as `tokens`: by reference, downloaded, damaged; against the files."""

import csv
import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.corpus.tokens import document_ends, reference
from olmo_core.corpus.tokens.published import PublishedSource
from olmo_core.errors import InputError
from olmo_core.files import read_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.result import damaged_files
from tests.olmo_core.corpus.tokens.token_files import (
    EOS,
    VOCABULARY,
    official,
    rows_of,
    write_tokens,
)
from tests.olmo_core.file_server import FileServer


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
