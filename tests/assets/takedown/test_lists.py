"""What is written of documents that must leave: lists that `raw` obeys, keys, and the ledger."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assets.assemble import build_graph
from assets.corpus.exclusions import placed_sources
from assets.corpus.nodes import corpus_nodes
from assets.recipe import load_recipe
from assets.takedown import ledger, lists, recipe_key
from assets.takedown.ledger import read_ledger
from assets.takedown.lists import planned_lists, write_lists
from assets.takedown.records import read_records
from assets.takedown.search import corpora, search
from assets.takedown.verify import taken_down
from olmo_core.corpus.document import read_documents
from olmo_core.corpus.intake import raw
from olmo_core.errors import ConfigError
from tests.assets.recipe_files import TINY
from tests.hostile import hostile


def write_recipe(folder: Path, made: Any, sources: list[str], more: str = "") -> Path:
    """A recipe of its own sources; the other sections are those of `tiny`."""
    recipe = shutil.copytree(TINY, folder / "mine")
    entries = "".join(
        f"    # the best\n    - name: {name}\n      reader: files\n"
        f"      root: {made.texts / name}\n      metadata_keys: [url]\n"
        "      min_document_bytes: 1\n"
        f"{more}"
        for name in sources
    )
    rest = (recipe / "corpus.yaml").read_text()
    rest = rest[rest.index("near_duplicates:") :]
    (recipe / "corpus.yaml").write_text(f"# mine\nraw:\n  sources:\n{entries}\n{rest}")
    return recipe


@pytest.fixture
def mine(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that writes the recipe `mine` of some documents, and makes its corpus."""
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))

    def mine(rows: Any, more: str = "", **changes: Any) -> Path:
        recipe = write_recipe(tmp_path / "recipes", made, list(rows), more)
        made.corpus("mine", rows, **changes)
        return recipe

    return mine


def write(made: Any, *asked: str) -> int:
    """Take down what is asked for; return how many lists lacked anything."""
    found = corpora(read_records(made.path))
    assert search(found, asked) == set(asked)
    targets = [target for corpus in found for target in corpus.targets.values()]
    recipe = load_recipe("mine")
    planned = planned_lists(recipe, targets)
    write_lists(planned, recipe, taken_down(targets))
    return len(planned)


def rebuild(made: Any, folder: str = "mine/raw/new") -> tuple[set[str], set[str]]:
    """Make `raw` of the recipe as it stands; return the ids that stay, and those excluded."""
    sources = placed_sources(load_recipe("mine"))
    new = made.job(folder, raw, raw.RawConfig(sources=sources))
    found: list[set[str]] = []
    for name in ("documents", "excluded"):
        files = sorted((new / name).rglob("*.jsonl.gz"))
        found.append({each.id for path in files for each in read_documents(path)})
    return found[0], found[1]


def test_a_rebuild_has_exactly_the_others_whatever_the_ids_are(
    made: Any, mine: Any, text: Any, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    ids = [value for value in hostile(canary) if value.strip()]
    ids += [
        "a\x1b[31mred",
        "sha1: " + "0" * 40,
        "id: 1",
        "# comment",
        "x\u2028y",
        " blanks ",
        "é=é",
    ]
    ids = list(dict.fromkeys(ids))
    rows = [{"id": value, "text": text(n)} for n, value in enumerate(ids)]
    mine({"odd": rows, "b": [{"id": str(n), "text": text(1000 + n)} for n in range(3)]})
    every = {f"odd/{value}" for value in ids}
    gone = {f"odd/{value}" for value in ids[::2]}
    assert write(made, *gone) == 1
    stay, excluded = rebuild(made)
    assert excluded == gone
    assert stay == every - gone | {f"b/{n}" for n in range(3)}
    assert not canary.exists()


def test_dropped_copies_and_those_of_other_sources_do_not_come_back(
    made: Any, mine: Any, text: Any
) -> None:
    rows = {
        "a": [{"id": "1", "text": text(1)}, {"id": "copy", "text": text(1)}, {"text": text(5)}],
        "b": [{"id": "near", "text": text(1, changed=1)}, {"id": "2", "text": text(2)}],
    }
    recipe = mine(rows)
    before = (recipe / "corpus.yaml").read_text()
    assert write(made, "a/1") == 2
    assert rebuild(made) == ({"a/all.jsonl:3", "b/2"}, {"a/1", "a/copy", "b/near"})
    after = (recipe / "corpus.yaml").read_text()
    added = [line.strip() for line in after.splitlines() if line not in before.splitlines()]
    assert added == [f"exclude_documents: takedown/{name}.txt" for name in "ab"]
    assert set(read_ledger(recipe)) == {each.sha1 for each in read_ledger(recipe).values()}
    assert write(made, "a/1", "b/near") == 1  # it is asked for by its id now
    assert write(made, "a/1", "b/near") == 0


def test_pieces_leave_by_the_id_of_their_text_however_it_is_cut(
    made: Any, mine: Any, text: Any
) -> None:
    whole = "\n\n".join(text(n) for n in range(5))
    recipe = mine(
        {"a": [{"id": "1", "text": whole}, {"id": "2", "text": text(9)}]},
        more="      max_document_bytes: 700\n",
        max_document_bytes=700,
    )
    write(made, "a/1#001")
    file = recipe / "corpus.yaml"
    file.write_text(file.read_text().replace("max_document_bytes: 700", "max_document_bytes: 1500"))
    stay, excluded = rebuild(made)
    assert stay == {"a/2"}
    assert excluded
    assert all(name.startswith("a/1") for name in excluded)


def test_a_list_that_a_source_has_is_added_to_and_keeps_its_comments(
    made: Any, mine: Any, text: Any, tmp_path: Path
) -> None:
    listed = tmp_path / "own.txt"
    listed.write_text("# of the lawyers\nid: 2")  # without a line end
    recipe = mine(
        {"a": [{"id": str(n), "text": text(n)} for n in range(4)]},
        more=f"      exclude_documents: {listed}\n",
    )
    before = (recipe / "corpus.yaml").read_bytes()
    assert write(made, "a/1", "a/2") == 1
    assert (recipe / "corpus.yaml").read_bytes() == before
    assert listed.read_text().startswith("# of the lawyers\nid: 2\n# a/1: asked for\nsha1: ")
    assert rebuild(made) == ({"a/0", "a/3"}, {"a/1", "a/2"})


def test_the_lists_of_a_variant_stand_where_its_sources_do(
    made: Any, mine: Any, text: Any, tmp_path: Path
) -> None:
    base = mine({"a": [{"id": str(n), "text": text(n)} for n in range(3)]})
    base.rename(base.with_name("base"))
    variant = base.with_name("mine")
    variant.mkdir()
    (variant / "recipe.yaml").write_text("extends: base\n")
    write(made, "a/1")
    assert sorted(path.name for path in variant.iterdir()) == ["recipe.yaml"]
    assert (base.with_name("base") / "takedown" / "a.txt").is_file()
    assert rebuild(made) == ({"a/0", "a/2"}, {"a/1"})
    [node] = [node for node in corpus_nodes(load_recipe("mine")) if node.name == "raw"]
    given = node.config_file({}, tmp_path)["config"]["sources"][0]["exclude_documents"]
    assert given == str(base.with_name("base") / "takedown" / "a.txt")
    assert node.config["sources"][0]["exclude_documents"] == "takedown/a.txt"


class Killed(BaseException):
    """In place of SIGKILL."""


def test_a_write_that_ends_at_any_moment_is_completed_by_the_next(
    made: Any, mine: Any, text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "a": [{"id": "1", "text": text(1)}, {"id": "2", "text": text(2)}],
        "b": [{"id": "near", "text": text(1, changed=1)}, {"id": "3", "text": text(3)}],
    }
    recipe = mine(rows)
    whole = {path: path.read_bytes() for path in recipe.iterdir()}
    writers = [(lists, "write_atomic"), (ledger, "write_atomic"), (recipe_key, "write_atomic")]
    for last in range(1, 6):  # two lists, the ledger, and a key in the file twice
        shutil.rmtree(recipe / "takedown", ignore_errors=True)
        for path, content in whole.items():
            path.write_bytes(content)
        count = 0
        with monkeypatch.context() as patch:
            for module, name in writers:
                real = getattr(module, name)

                def write_or_end(*arguments: Any, real: Any = real, last: int = last) -> None:
                    nonlocal count
                    count += 1
                    if count == last:
                        raise Killed
                    real(*arguments)

                patch.setattr(module, name, write_or_end)
            with pytest.raises(Killed):
                write(made, "a/1")
        load_recipe("mine")
        assert placed_sources(load_recipe("mine"))  # it can be read
        write(made, "a/1")
        stay, excluded = rebuild(made, f"mine/raw/after{last}")
        assert (stay, excluded) == ({"a/2", "b/3"}, {"a/1", "b/near"})
        assert len(read_ledger(recipe)) == 2


def test_a_key_that_cannot_be_added_is_said_and_the_list_is_there(
    made: Any, mine: Any, text: Any
) -> None:
    recipe = mine({"a": [{"id": "1", "text": text(1)}, {"id": "2", "text": text(2)}]})
    file = recipe / "corpus.yaml"
    text_of_it = file.read_text()
    start, end = text_of_it.index("    - name: a"), text_of_it.index("\nnear_duplicates")
    mapping = text_of_it[start:end].replace("    - ", "      ")
    base = f"base: &base\n{mapping}\n"
    file.write_text(f"{base}{text_of_it[:start]}    - <<: *base{text_of_it[end:]}")
    with pytest.raises(ConfigError, match="source a: add this line to its mapping"):
        write(made, "a/1")
    listed = (recipe / "takedown" / "a.txt").read_text()
    assert "id: a/1" in listed
    assert [
        json.loads(line)["id"] for line in (recipe / "takedown" / "documents.jsonl").open()
    ] == ["a/1"]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("raw: {}", r"raw\.sources: key missing"),
        ("raw: {sources: [{reader: files}]}", r"raw\.sources\[0\]\.name: key missing"),
        ("raw: {sources: 3}", "sources"),
        ("", "raw: section missing"),
    ],
)
def test_a_malformed_source_is_refused_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, expected: str
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    recipe = shutil.copytree(TINY, tmp_path / "recipes" / "mine")
    rest = (recipe / "corpus.yaml").read_text()
    rest = rest[rest.index("near_duplicates:") :]
    (recipe / "corpus.yaml").write_text(f"{section}\n{rest}")
    with pytest.raises(ConfigError, match=expected):
        build_graph(load_recipe("mine"))
