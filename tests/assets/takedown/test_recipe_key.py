"""A key is added to a source in a person's corpus.yaml: nothing else in the file changes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.takedown.recipe_key import add_source_key
from olmo_core.errors import ConfigError

FILES = {
    "block": (
        "# mine\nraw:\n  sources:\n    - name: books  # the best\n      reader: files\n"
        "    - reader: files\n      name: pages\n",
        "    - name: books  # the best\n      exclude_documents: takedown/books.txt\n",
    ),
    "after other keys": (
        "raw:\n  sources:\n  - reader: files\n    name: books",
        "    name: books\n    exclude_documents: takedown/books.txt",
    ),
    "flow": (
        "raw: {sources: [{name: 'books', reader: files}, {name: pages, reader: files}]}\n",
        "{name: 'books', exclude_documents: takedown/books.txt, reader: files}",
    ),
    "flow over lines": (
        "raw:\n  sources:\n    - {reader: files, # why\n       name: books,\n       root: /x}\n",
        "name: books, exclude_documents: takedown/books.txt,\n",
    ),
    "carriage returns": (
        "raw:\r\n  sources:\r\n    - name: books\r\n      reader: files\r\n",
        "name: books\r\n      exclude_documents: takedown/books.txt\r\n      reader",
    ),
    "beyond ASCII": (
        "# Bücher, 日本 🙂\nraw:\n  sources:\n    - name: books # 🙂\n      root: /büch\n",
        "books # 🙂\n      exclude_documents: takedown/books.txt\n",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_line_is_added_and_every_other_byte_stays(tmp_path: Path, name: str) -> None:
    text, expected = FILES[name]
    file = tmp_path / "corpus.yaml"
    file.write_bytes(text.encode())
    add_source_key(file, "books", "exclude_documents", "takedown/books.txt")
    changed = file.read_bytes().decode()
    assert expected in changed
    tree: Any = yaml.safe_load(text)
    [books] = [each for each in tree["raw"]["sources"] if each["name"] == "books"]
    books["exclude_documents"] = "takedown/books.txt"
    assert yaml.safe_load(changed) == tree
    left = iter(changed)
    assert all(letter in left for letter in text)  # in order: nothing was taken out


@pytest.mark.parametrize(
    "text",
    [
        "raw:\n  sources: &all\n    - &a {name: books, reader: files}\nother: *all\n",
        "a: &a {name: books, reader: files}\nraw:\n  sources: [*a]\n",
        "base: &b\n  name: books\nraw:\n  sources:\n    - <<: *b\n      reader: files\n",
        "raw:\n  sources:\n    - name: books\n      exclude_documents: here.txt\n",
    ],
)
def test_what_a_line_cannot_be_added_to_is_left_and_the_line_is_named(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "corpus.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"books: add this line .* exclude_documents: takedown/b"):
        add_source_key(file, "books", "exclude_documents", "takedown/books.txt")
    assert file.read_text() == text
