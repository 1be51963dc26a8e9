"""Files that ask for documents: what they may hold, and how they are refused."""

import pytest

from assets.takedown.names import name_of
from assets.takedown.request import read_request
from olmo_core.errors import ConfigError


def test_lines_are_ids_urls_and_digests_each_once() -> None:
    content = "\ufeffbooks/a b\n# request 17\n\n https://x.org/?a=1#b \nbooks/a b\n".encode()
    request = read_request(content, "docs.txt")
    assert request.lines == {"books/a b": (1, 5), "https://x.org/?a=1#b": (4,)}
    assert request.place("books/a b") == "docs.txt:1"


def test_a_list_of_excluded_documents_asks_for_what_it_names() -> None:
    content = b"# docs\nsha1: 2fd4e1\nid: books/b: 1\nurl: https://x.org\nid:\nbooks/id: 3\n"
    asked = read_request(content, "books.txt").lines
    assert list(asked) == ["2fd4e1", "books/b: 1", "https://x.org", "id:", "books/id: 3"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing\n  \n"])
def test_a_file_that_asks_for_nothing_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^docs: asks for no document; expected an id, a URL"):
        read_request(content, "docs")


def test_bytes_that_are_not_utf_8_are_refused_with_their_line() -> None:
    with pytest.raises(ConfigError, match=r"^docs:2: not UTF-8"):
        read_request(b"a\n\xff\n", "docs")


def test_all_unknown_lines_are_named_at_once_and_no_terminal_obeys_them() -> None:
    request = read_request(b"a\nb\n\x1b[31mred\x1b[0m\nb\n", "docs")
    with pytest.raises(ConfigError) as caught:
        request.require_known({"\x1b[31mred\x1b[0m", "b"}, "2 corpora")
    assert str(caught.value).startswith(
        "docs:2: 'b'\ndocs:3: '\\x1b[31mred\\x1b[0m'\nno document has this id or URL"
    )
    request.require_known((), "2 corpora")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("books/1", ("books/1", "", "")),
        ("books/1#002", ("books/1", "#002", "")),
        ("books/1#1234~0123456789abcdef", ("books/1", "#1234", "~0123456789abcdef")),
        ("books/1~0123456789abcdef", ("books/1", "", "~0123456789abcdef")),
        ("books/1~0123", ("books/1~0123", "", "")),
        ("books/#12", ("books/#12", "", "")),
        ("books/a\n#000", ("books/a\n", "#000", "")),
    ],
)
def test_ids_are_taken_apart_as_raw_writes_them(given: str, expected: tuple[str, ...]) -> None:
    name = name_of(given)
    assert (name.text, name.piece, name.mark) == expected
    assert given in name.asked_by
    assert expected[0] in name.asked_by
