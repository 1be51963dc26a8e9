"""Taking away: what goes, what is put back, and what is left alone."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from assets.graph import Graph
from assets.launcher import Refused
from olmo_core.run.folder import locked
from pipelines.collect.collection import Asked, restore
from pipelines.collect.decisions import SHARED
from pipelines.collect.trash import TRASH
from tests.assets.execution.test_reuse import make, recipe
from tests.assets.made import make_one
from tests.pipelines.collect.collecting import NOW, a_root, run_gc
from tests.pipelines.collect.roots import LONG_AGO, Made, version


def test_all_that_nobody_needs_is_deleted_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    made, stay = a_root(tmp_path / "root")
    (made.root / "one/raw/notes.md").write_text("mine")
    before = made.stamps(stay)
    assert 5 < len(stay) < 35
    outcome = run_gc(made.root)
    assert made.there() == stay
    assert made.stamps(stay) == before
    assert (outcome.returned, outcome.left, outcome.wrong) == ([], {}, [])
    assert not (made.root / TRASH).exists()
    assert (made.root / "one/raw/notes.md").read_text() == "mine"
    assert run_gc(made.root).found.goes == {}


def test_what_was_moved_can_be_put_back(tmp_path: Path) -> None:
    made, stay = a_root(tmp_path / "root")
    before = made.stamps(set(made.inputs))
    run_gc(made.root, keep_trash=True)
    assert made.there() == stay
    [note] = made.root.glob(f"{TRASH}/*/trash.json")
    assert json.loads(note.read_text())["runs"].keys() == made.inputs.keys() - stay
    back, wrong = restore(made.root)
    assert set(back) == made.inputs.keys() - stay
    assert wrong == []
    assert made.stamps(set(made.inputs)).items() >= before.items()  # and locks
    assert made.there() == set(made.inputs)
    [again, other, *_] = sorted(made.inputs.keys() - stay)
    run_gc(made.root, keep_trash=True)
    (made.root / again).mkdir(parents=True)  # made once more meanwhile
    back, wrong = restore(made.root)
    assert again not in back
    assert other in back
    assert f"{made.root / again} is there" in wrong[0]


def test_what_was_made_anew_needs_nothing_of_the_trash(tmp_path: Path) -> None:
    made = Made(tmp_path / "root")
    raw = f"a/raw/{version(1)}"
    made.run(raw)
    made.run(f"a/raw/{version(2)}", ended=LONG_AGO + 1)
    run_gc(made.root, keep_trash=True)
    made.run(raw)
    made.run(f"b/tokens/{version(3)}", [raw])
    outcome = run_gc(made.root)
    assert (outcome.returned, outcome.left) == ([], {})
    assert made.there() == set(made.inputs)
    assert not (made.root / TRASH).exists()


def test_a_shared_root_refuses(tmp_path: Path) -> None:
    made, _ = a_root(tmp_path / "root")
    (made.root / SHARED).write_text("read by the team of the other cluster\n")
    with pytest.raises(Refused, match="read by the team of the other cluster"):
        run_gc(made.root)
    with pytest.raises(Refused, match="shared"):
        restore(made.root)
    assert made.there() == set(made.inputs)


def test_what_another_recipe_has_reused_stays_though_its_own_has_gone_on(toy_root: Path) -> None:
    one, copy = recipe("one"), recipe("copy")
    first = make(one, "first", toy_root).folder
    assert make(copy, "first", toy_root).reused_from == "one"
    newer = recipe("one", first={"value": 3})
    make(newer, "first", toy_root)
    run_gc(toy_root, NOW, newer)  # `copy` is nowhere to be found
    assert first.finished
    assert make(copy, "first", toy_root).how == "finished before"
    make(recipe("copy", first={"value": 3}), "first", toy_root)
    assert [*run_gc(toy_root, NOW, newer).found.goes] == [str(first.path.relative_to(toy_root))]


def test_small_things_of_killed_writers_go_and_nothing_else(tmp_path: Path) -> None:
    made = Made(tmp_path / "root")
    run = made.run(f"a/raw/{version(1)}")
    begun = made.run(f"a/tokens/{version(2)}", ended=None, touched=time.time())
    stray = [
        made.root / ".assigned/0a.json.123.partial",
        made.root / "cache/evals/0b/0b.json.77.partial",
        run.path / "status.json.99.partial",
    ]
    kept = [
        made.root / "cache/evals/0b/0b.json",
        made.root / "cache/mine.partial",
        run.path / "data.5.partial",
        begun.path / "status.json.98.partial",
    ]
    for path in (*stray, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
        os.utime(path, (LONG_AGO, LONG_AGO))
    lately = made.root / "cache/evals/0b/0c.json.78.partial"
    lately.write_text("{")
    assigned = made.root / ".assigned/0c.json"
    assigned.write_text(json.dumps({"path": f"a/raw/{version(7)}"}))
    here = made.root / ".assigned/0d.json"
    here.write_text(json.dumps({"path": f"a/raw/{version(1)}"}))
    run_gc(made.root, Asked(older_than_seconds=60))
    assert not any(path.exists() for path in (*stray, assigned))
    assert all(path.exists() for path in (*kept, lately, here))


@pytest.mark.parametrize("kind", ["quotes", "places"])
def test_a_cache_goes_with_the_last_run_of_its_content(tmp_path: Path, kind: str) -> None:
    made = Made(tmp_path / "root")
    old, new, copy = f"a/tokens/{version(1)}", f"a/tokens/{version(2)}", f"b/tokens/{version(1)}"
    digests = [character * 64 for character in "0123"]
    made.run(old, digest=digests[0])
    made.run(copy, digest=digests[0])
    made.run(new, digest=digests[1], ended=LONG_AGO + 1)
    quotes = made.root / "cache" / kind
    for digest in (*digests[:3], "notes"):
        (quotes / digest).mkdir(parents=True)
        (quotes / digest / "index.json").write_text("{}")
    with locked(quotes / digests[2] / "build.lock"):  # one is being built
        run_gc(made.root)
    assert made.there() == {copy, new}
    assert {path.name for path in quotes.iterdir()} == {*digests[:3], "notes"}
    run_gc(made.root, keep_trash=True)
    assert (quotes / digests[2]).exists()
    assert not any((made.root / TRASH).iterdir())
    run_gc(made.root)
    assert {path.name for path in quotes.iterdir()} == {*digests[:2], "notes"}
    (quotes / digests[3]).mkdir()
    run_gc(made.root, Asked(older_than_seconds=0, only=(copy,)))
    assert {path.name for path in quotes.iterdir()} == {digests[1], digests[3], "notes"}


def test_links_in_a_run_are_deleted_and_what_they_lead_to_is_not(tmp_path: Path) -> None:
    made = Made(tmp_path / "root")
    old = made.run(f"a/raw/{version(1)}")
    made.run(f"a/raw/{version(2)}", ended=LONG_AGO + 1)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    (old.log / "link").symlink_to(tmp_path / "precious")
    (old.log / "file").symlink_to(tmp_path / "precious/file")
    os.utime(old.path, (LONG_AGO, LONG_AGO))
    run_gc(made.root)
    assert not old.path.exists()
    assert (tmp_path / "precious/file").read_text() == "precious"


@pytest.mark.parametrize("seed", range(8))
def test_what_counts_for_each_recipe_is_the_same_before_and_after(
    toy_root: Path, seed: int
) -> None:
    """Variants of three recipes, made, repeated, reused in any order; two more are not known."""
    dice = random.Random(seed)
    graphs: dict[str, Graph] = {}
    for number in range(30):
        name = dice.choice(["one", "two", "three", "away", "gone"])
        values = {"first": dice.randrange(3), "second": dice.randrange(2)}
        graph = recipe(name, **{asset: {"value": value} for asset, value in values.items()})
        graphs[name] = graph  # as it stands from here on
        for asset in dice.choice([["first"], ["second"], ["first", "second"]]):
            inputs = [graph.finished(toy_root, entry) for entry in graph.nodes[asset].inputs]
            is_there = graph.finished(toy_root, asset) is not None
            if all(inputs) and (not is_there or dice.random() < 0.3):
                make_one(graph, toy_root, asset, dice.choice(["", str(number)]))
    known = [graph for name, graph in graphs.items() if name not in ("away", "gone")]

    def counts() -> dict[str, Path | None]:
        return {
            f"{graph.recipe.name}/{asset}": run and run.path
            for graph in known
            for asset in graph.nodes
            for run in [graph.finished(toy_root, asset)]
        }

    before, runs = counts(), [*toy_root.glob("*/*/*/result.json")]
    gone = run_gc(toy_root, NOW, *known).found.goes
    assert counts() == before
    assert len([*toy_root.glob("*/*/*/result.json")]) == len(runs) - len(gone)
    assert gone
    for result in toy_root.glob("*/*/*/result.json"):
        for entry in json.loads(result.read_text())["inputs"].values():
            assert (toy_root / entry["path"] / "result.json").is_file()
