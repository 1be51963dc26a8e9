"""Taking away: killed at any moment, beside launches, put back, and what is left alone."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assets.execution.hold import results_held
from assets.execution.produce import launch_of, main_line_work
from assets.graph import Graph
from assets.launcher import Refused
from olmo_core.run.folder import locked
from pipelines.collect import collection
from pipelines.collect.collection import Asked, Outcome, collect, restore
from pipelines.collect.decisions import SHARED
from pipelines.collect.mark import Recipes
from pipelines.collect.trash import TRASH, trashed
from pipelines.launchers.local import LocalLauncher
from tests.assets.execution.test_produce import wait_until
from tests.assets.execution.test_reuse import make, recipe
from tests.assets.made import make_one
from tests.pipelines.collect.roots import LONG_AGO, Made, version

NOW = Asked(older_than_seconds=0)


def run_gc(root: Path, asked: Asked = NOW, *graphs: Graph, keep_trash: bool = False) -> Outcome:
    recipes = Recipes(graphs={graph.recipe.name: graph for graph in graphs}, broken={})
    return collect(
        root, recipes, LocalLauncher(), asked, keep_trash=keep_trash, deleted=lambda files: None
    )


def a_root(folder: Path, seed: int = 0, runs: int = 40) -> tuple[Made, set[str]]:
    """A root, and which of its runs stay."""
    dice, made = random.Random(seed), Made(folder)
    lines = ["one/raw", "one/tokens", "one/stage1", "two/raw", "two/tokens"]
    lines += [f"two/checkpoint_downstream/stage1@step{step}" for step in (10, 20)]
    for number in range(runs):
        inputs = dice.sample([*made.inputs], min(len(made.inputs), dice.choice([0, 1, 2])))
        ended = dice.choice([None, LONG_AGO + number, LONG_AGO + number])
        made.run(f"{dice.choice(lines)}/{version(number)}", inputs, ended=ended)
    newest: dict[str, str] = {}
    for name, ended in made.finished.items():
        if ended is not None:
            newest[name.rpartition("/")[0]] = name
    return made, made.reachable({*newest.values()})


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


def killed_after(root: Path, operations: int) -> bool:
    """Run it in a process that is killed at its n-th change of the disk; whether it was."""
    # Not a fork of this process: a lock that another thread holds would be held there for ever.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run_gc_until, args=(root, operations))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _run_gc_until(root: Path, left: int) -> None:
    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def act_or_die(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **named)

        return act_or_die

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    run_gc(root)


def require_whole(made: Made, stay: set[str], before: dict[str, bytes]) -> None:
    """What stays is there to the byte, and what is there lacks nothing that it was made from."""
    assert made.stamps(stay) == before
    there = made.there()
    assert stay <= there
    assert made.reachable(there) == there
    for name in there:
        assert {path.name for path in (made.root / name).iterdir()} >= {
            "config.yaml",
            "launch.json",
        }


def test_killed_at_each_change_nothing_is_lost_and_the_next_ends_the_work(tmp_path: Path) -> None:
    operations, moments = 0, 0
    while True:
        made, stay = a_root(tmp_path / f"root{operations}", runs=16)
        before = made.stamps(stay)
        killed = killed_after(made.root, operations)
        require_whole(made, stay, before)
        run_gc(made.root)
        assert made.there() == stay
        assert made.stamps(stay) == before
        assert not (made.root / TRASH).exists()
        if not killed:
            break
        moments += 1
        operations += 1 + operations // 8
    assert moments > 20


GC = """
import sys
from pathlib import Path
from tests.pipelines.collect.test_collection import run_gc
print("ready", flush=True)
sys.stdin.readline()
run_gc(Path(sys.argv[1]))
print("done", flush=True)
"""


def kill_at_random_moments(folder: Path, count: int) -> list[str]:
    """Real processes killed from outside; returns how far each has come."""
    dice, seen = random.Random(count), []
    whole_seconds = 0.0
    for number in range(count + 1):
        made, stay = a_root(folder / f"root{number}", seed=number, runs=80)
        before = made.stamps(stay)
        process = subprocess.Popen(
            [sys.executable, "-c", GC, str(made.root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.stdin.write("go\n")
        process.stdin.flush()
        if number == 0:  # how long a whole one takes
            assert process.stdout.readline() == "done\n"
            whole_seconds = time.monotonic() - began
            process.wait()
            continue
        time.sleep(dice.random() * whole_seconds)
        process.kill()
        process.wait()
        require_whole(made, stay, before)
        moved, deleting = len(trashed(made.root)), [*made.root.glob(f"{TRASH}/*/emptying*")]
        gone = len(made.inputs) - len(made.there())
        seen.append(
            f"{gone} of {len(made.inputs) - len(stay)} moved"
            + (", deleting" if deleting else ", in the trash" if moved else "")
        )
        run_gc(made.root)
        assert made.there() == stay
        assert made.stamps(stay) == before
        assert not (made.root / TRASH).exists()
    return seen


@pytest.mark.slow
def test_killed_at_a_few_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    assert len(kill_at_random_moments(tmp_path, 4)) == 4


@pytest.mark.drill
def test_killed_at_thirty_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    seen = kill_at_random_moments(tmp_path, 30)
    print("\n".join(seen))
    assert len(seen) == 30


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


def test_while_a_launch_chooses_its_inputs_nothing_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, stay = a_root(tmp_path / "root")
    monkeypatch.setattr(collection, "PATIENCE_SECONDS", 0.2)
    with results_held(made.root), results_held(made.root):
        with pytest.raises(Refused, match="by a launch that is not over"):
            run_gc(made.root)
        assert made.there() == set(made.inputs)
    run_gc(made.root)
    assert made.there() == stay


def test_what_somebody_refers_to_meanwhile_comes_back_with_its_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a machine whose file system passes no locks on, say, or by an earlier version of us."""
    made = Made(tmp_path / "root")
    raw, tokens = (f"a/{each}/{version(1)}" for each in ("raw", "tokens"))
    made.run(raw)
    made.run(tokens, [raw])
    for each in ("raw", "tokens"):
        made.run(f"a/{each}/{version(2)}", ended=LONG_AGO + 1)
    move = collection.take_away

    def moved(root: Path, name: str, bin: Path) -> None:
        move(root, name, bin)
        if name == tokens:
            made.run(f"b/stage1/{version(3)}", [tokens], ended=None)

    before = made.stamps({raw, tokens})
    monkeypatch.setattr(collection, "take_away", moved)
    outcome = run_gc(made.root)
    assert outcome.returned == [raw, tokens]
    assert made.stamps({raw, tokens}).items() >= before.items()  # and locks
    assert made.there() == set(made.inputs)


def test_where_a_job_is_just_being_submitted_its_inputs_stay_too(tmp_path: Path) -> None:
    made = Made(tmp_path / "root")
    raw, tokens = (f"a/{each}/{version(1)}" for each in ("raw", "tokens"))
    made.run(raw)
    job = made.run(tokens, [raw], ended=None)
    made.run(f"a/raw/{version(2)}", ended=LONG_AGO + 1)
    with locked(job.path / "submit.lock"):
        run_gc(made.root)
    assert made.there() == set(made.inputs)


def test_a_job_that_writes_keeps_its_folder_and_its_inputs(toy_root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    old, new = recipe("one", second={"wait": str(gate)}), recipe("one", first={"value": 3})
    make(old, "first", toy_root)
    launcher = LocalLauncher()
    launch = launch_of(main_line_work(old, "second", toy_root), toy_root)
    launcher.submit([launch])
    wait_until(lambda: (toy_root / "one/second/starts").exists())
    make(new, "first", toy_root)
    for _ in range(3):
        assert run_gc(toy_root, NOW, new).found.goes == {}
    gate.touch()
    wait_until(lambda: launch.folder.finished)
    assert launch.folder.read_result()["report"]["numbers"]["value"] == 2


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


def _launch_what_reads_superseded(root: str, rounds: int, most: int, counts: Any) -> None:
    """Make, of each input, a newer version, and at once a reader of the old one.

    Go on, up to the most rounds, until a launch has come before the other process.
    """
    for number in range(most):
        if number >= rounds and counts[0]:
            break
        counts[2] += 1
        for value in (number, number + 1):
            make(recipe("one", first={"value": value}), "first", Path(root))
        try:
            make(recipe("copy", first={"value": number}), "second", Path(root))
            counts[0] += 1
        except Refused as error:
            counts[1] += "has not been made" in str(error)  # it was taken away before


@pytest.mark.slow
def test_beside_launches_nothing_is_taken_away_that_a_job_reads(toy_root: Path) -> None:
    newer = recipe("one", first={"value": 99})
    make(newer, "first", toy_root)
    context = multiprocessing.get_context("spawn")
    counts = context.Array("i", 3)
    other = context.Process(
        target=_launch_what_reads_superseded, args=(str(toy_root), 8, 80, counts), daemon=True
    )
    other.start()
    while other.is_alive():
        run_gc(toy_root, NOW, newer)
    other.join()
    assert other.exitcode == 0
    launched, refused, rounds = counts
    assert launched + refused == rounds >= 8
    assert launched > 0
    results = [*toy_root.glob("copy/second/*/result.json")]
    assert results
    for result in results:
        for entry in json.loads(result.read_text())["inputs"].values():
            assert (toy_root / entry["path"] / "value").is_file(), result


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


def test_a_cache_goes_with_the_last_run_of_its_content(tmp_path: Path) -> None:
    made = Made(tmp_path / "root")
    old, new, copy = f"a/tokens/{version(1)}", f"a/tokens/{version(2)}", f"b/tokens/{version(1)}"
    digests = [character * 64 for character in "0123"]
    made.run(old, digest=digests[0])
    made.run(copy, digest=digests[0])
    made.run(new, digest=digests[1], ended=LONG_AGO + 1)
    quotes = made.root / "cache/quotes"
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
