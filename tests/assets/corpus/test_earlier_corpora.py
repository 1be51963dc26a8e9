"""Earlier corpora in a recipe: named once, compared with twice, known by their content."""

import shutil
from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError

TINY = Path(__file__).parents[2] / "recipes" / "tiny"
DOCUMENT = '{"id": "a/1", "text": "A text.", "source": "a"}\n'


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The corpus.yaml of a recipe `mine`, equal to tiny; `OLD` is a folder with a document."""
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "0.jsonl").write_text(DOCUMENT)
    monkeypatch.setenv("OLD", str(tmp_path / "old"))
    return Path(shutil.copytree(TINY, tmp_path / "mine")) / "corpus.yaml"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def graph() -> Graph:
    return build_graph(load_recipe("mine"))


def stale(before: Graph, after: Graph) -> set[str]:
    """The assets of the corpus whose fingerprints differ."""
    ours = [name for name, node in after.nodes.items() if node.stage == "corpus"]
    return {
        name for name in ours if before.fingerprints[name].value != after.fingerprints[name].value
    }


def test_one_list_serves_near_and_exact_copies(corpus: Path) -> None:
    without = graph()
    replace(corpus, "near_duplicates: {}", "near_duplicates: {earlier: ['${OLD}']}")
    nodes = graph().nodes
    for name in ("near_duplicates", "deduplicated"):
        assert nodes[name].config["earlier"] == ["${OLD}"]
    assert stale(without, graph()) >= {"near_duplicates", "held_out", "deduplicated", "filtered"}
    assert "raw" not in stale(without, graph())


def test_fingerprints_know_what_the_files_hold_and_not_where(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(corpus, "near_duplicates: {}", "near_duplicates: {earlier: ['${OLD}']}")
    before = graph()
    shutil.move(tmp_path / "old", tmp_path / "moved")
    monkeypatch.setenv("OLD", str(tmp_path / "moved"))
    assert not stale(before, graph())
    replace(corpus, "${OLD}", str(tmp_path / "moved"))
    assert not stale(before, graph())
    (tmp_path / "moved" / "0.jsonl").write_text(DOCUMENT.replace("A text", "a text"))
    after = graph()
    assert stale(before, after) >= {"near_duplicates", "deduplicated"}
    old, new = (g.fingerprints["deduplicated"].parts["config"]["earlier"] for g in (before, after))
    assert [each.keys() for each in old] == [each.keys() for each in new] == [{"0.jsonl"}]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "near_duplicates: {}",
            "near_duplicates: {earlier: ['${OLD}/missing']}",
            r"corpus.yaml:\d+: near_duplicates: earlier: '\$\{OLD\}/missing' .* existing folder",
        ),
        (
            "deduplicated:\n",
            "deduplicated:\n  earlier: ['${OLD}']\n",
            r"corpus.yaml:\d+: deduplicated: earlier: the graph sets it, from `near_duplicates`",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(corpus: Path, old: str, new: str, message: str) -> None:
    replace(corpus, old, new)
    with pytest.raises(ConfigError, match=message):
        assert graph().fingerprints


def test_the_toolkits_engine_is_refused_beside_earlier_corpora(corpus: Path) -> None:
    replace(corpus, "near_duplicates: {}", "near_duplicates: {earlier: ['${OLD}']}")
    replace(corpus, "deduplicated:\n", "deduplicated:\n  engine: dolma\n")
    with pytest.raises(ConfigError, match=r"corpus.yaml:\d+: deduplicated: engine is 'dolma'"):
        graph()
