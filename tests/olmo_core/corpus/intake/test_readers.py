"""Readers of installed text: deterministic, bounded, and nothing silent."""

import re
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import pytest

from olmo_core.corpus.intake.passages import Passage
from olmo_core.corpus.intake.pieces import split_text
from olmo_core.corpus.intake.readers import READERS, source_identity
from olmo_core.corpus.intake.sources import CHARACTER_BYTES, SourceConfig, Unit
from olmo_core.errors import ConfigError

MODULE = '''"""What the module is for."""

class Box:
    """A box.

        Indented more.

    Not indented.
    """

    if True:
        def open(self):
            """Open it."""

    def open(self):
        """Open it again."""

def bare(): pass
'''


def test_docstrings_are_named_by_their_dotted_path(tmp_path: Path) -> None:
    path = tmp_path / "tool.py"
    path.write_text(MODULE)
    config = SourceConfig(name="docs", reader="docstrings", standard_library=True)
    unit = Unit(name="pack/tool.py", path=path, origin={})
    passages = cast(Iterable[Passage], READERS["docstrings"].read(config, unit))
    assert {p.name: p.text for p in passages} == {
        "pack.tool": "What the module is for.",
        "pack.tool.Box": "A box.\n\n    Indented more.\n\nNot indented.",
        "pack.tool.Box.open": "Open it.",
        "pack.tool.Box.open~2": "Open it again.",
    }


def test_topics_are_those_of_help(read: Any) -> None:
    by_name = read(SourceConfig(name="topics", reader="pydoc_topics")).texts
    assert by_name["topics/lambda"] == topics["lambda"].strip()
    assert {name.split("/")[1].split("#")[0] for name in by_name} <= set(topics)


def test_code_is_the_file_and_pieces_join_to_it(read: Any) -> None:
    config = SourceConfig(
        name="code", reader="python_code", packages=("mdurl",), max_document_bytes=1000
    )
    reading = read(config)
    import mdurl._parse

    whole = Path(mdurl._parse.__file__).read_text()
    pieces = [d for d in reading.documents if d.id.startswith("code/mdurl/_parse.py#")]
    assert len(pieces) > 5
    assert all(piece.text_bytes <= 1000 for piece in pieces)
    assert re.sub(r"\s+", "", "".join(p.text for p in pieces)) == re.sub(r"\s+", "", whole)
    assert pieces[0].metadata["package"] == "mdurl"
    assert pieces[0].metadata["version"] == source_identity([config])["packages"]["mdurl"]


def test_long_descriptions_and_licences_are_told_apart(read: Any) -> None:
    prose = read(SourceConfig(name="text", reader="package_text", packages=("click",)))
    assert [d.id for d in prose.documents] == ["text/click/long-description"]
    assert prose.documents[0].text.startswith("<div") or "Click" in prose.documents[0].text
    licences = read(SourceConfig(name="legal", reader="licences", packages=("click",)))
    assert len(licences.documents) == 1
    assert "Redistribution and use in source and binary forms" in licences.documents[0].text


def test_the_bound_is_kept_by_a_choice_that_is_always_the_same(read: Any) -> None:
    config = SourceConfig(name="code", reader="python_code", packages=("rich",), max_bytes=100_000)
    one, other = read(config), read(config, processes=2)
    assert one.documents == other.documents
    assert 80_000 < sum(d.text_bytes for d in one.documents) <= 100_000
    assert re.search(r"\d+ beyond max_bytes \(files\)", one.row["left_out"])
    names = [unit.name for unit in READERS["python_code"].units(config).units]
    taken = list(dict.fromkeys(names.index(str(d.metadata["file"])) for d in one.documents))
    # Chosen by a hash: neither the first nor the last files by name.
    assert max(taken) - min(taken) > 2 * len(taken)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("short", ["short"]),
        ("aaaa\n\nbbbb\n\ncccc", ["aaaa\n\nbbbb", "cccc"]),
        ("aaaaaaaa\nbbbbbbbb", ["aaaaaaaa", "bbbbbbbb"]),
        ("x" * 24, ["x" * 6] * 4),
        ("ééééé\n\nééééé", ["ééééé", "ééééé"]),
    ],
)
def test_long_texts_are_cut_at_blank_lines_then_lines_then_anywhere(
    text: str, pieces: list[str]
) -> None:
    assert split_text(text, 10) == pieces


def test_the_smallest_pieces_are_characters() -> None:
    assert split_text("a😀é\n\n😀", CHARACTER_BYTES) == ["a", "😀", "é", "😀"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reader": "files"}, "`root` belongs to"),
        ({"reader": "files", "root": "/", "dataset": "some/set"}, "and no other reader does"),
        ({"reader": "licences"}, "`packages` is empty"),
        ({"reader": "docstrings"}, "nothing to read"),
        ({"reader": "pydoc_topics", "name": "a/b"}, "expected letters, digits"),
        ({"reader": "pydoc_topics", "bad_documents": "quarantine"}, "belongs to reader files"),
        ({"reader": "licences", "text_key": "body"}, "`text_key` belongs to reader files"),
        ({"reader": "files", "root": "/", "id_key": "text"}, "expected each key once"),
        ({"reader": "pydoc_topics", "min_document_bytes": 0}, "above 0"),
        (
            {"reader": "pydoc_topics", "min_document_bytes": 1, "max_document_bytes": 3},
            "max_document_bytes 3: expected 4 or more",
        ),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceConfig(**({"name": "s"} | settings))  # pyright: ignore[reportArgumentType]


def test_a_package_that_is_not_there_is_named() -> None:
    config = SourceConfig(name="s", reader="licences", packages=("no-such-package",))
    with pytest.raises(ConfigError, match="package 'no-such-package' is not installed"):
        source_identity([config])
