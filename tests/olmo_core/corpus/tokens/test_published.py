"""Which token files a recipe names, and what of them is its identity."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.config.load import build, parse
from olmo_core.corpus.tokens.published import (
    PublishedSource,
    list_files,
    published_dtype,
    published_identity,
)
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.errors import ConfigError
from olmo_core.files import read_json
from tests.olmo_core.corpus.tokens.token_files import official, write_tokens
from tests.olmo_core.file_server import FileServer


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


def test_no_secret_of_a_url_is_published(server: FileServer, make, tmp_path: Path) -> None:
    """Neither in `published.json` nor in rows, names and identities; yet they depend on it."""
    write_tokens(server.folder / "part-0.npy", [7, 6, 5], rows=False)
    sources = [
        PublishedSource(source="a", paths=(f"{server.url}/part-0.npy?sig={sig}",), dtype="uint32")
        for sig in ("c0ffee5ecret", "other")
    ]
    made = make(sources[0])
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        assert b"c0ffee" not in content + str(path).encode(), path
    [file] = read_json(made / "published.json")["files"]
    assert file["from"].startswith(f"{server.url}/part-0.npy?sig=*** (")
    one, other = (published_identity([source]) for source in sources)
    assert "c0ffee" not in str(one)
    assert one != other
