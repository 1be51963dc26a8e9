"""Equal fingerprints are one result: of other recipes of the root, and of shared roots."""

import multiprocessing
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.evals.sweep import checkpoints
from assets.execution.produce import Produced, launch_of, main_line_work
from assets.execution.step import cancel_jobs
from assets.graph import Graph
from assets.launcher import Refused
from assets.reuse import own_jobs
from assets.staleness import latest_finished
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.launchers.local import LocalLauncher
from pipelines.places import at_work
from tests.assets.execution.test_produce import wait_until
from tests.conftest import SilentObserver, make_work, planned, toy_graph


def recipe(name: str, **configs: Mapping[str, Any]) -> Graph:
    """The toy graph under another recipe's name."""
    graph = toy_graph(**configs)
    nodes = {key: replace(node, recipe=name) for key, node in graph.nodes.items()}
    return Graph(recipe=replace(graph.recipe, name=name), nodes=nodes)


def make(graph: Graph, name: str, root: Path, *, force: bool = False) -> Produced:
    return make_work(
        main_line_work(graph, name, root),
        root=root,
        launcher=LocalLauncher(),
        observer=SilentObserver(),
        force=force,
    )


def starts(root: Path) -> int:
    """How many jobs have been started below a root, whosever."""
    return sum(len(path.read_text()) for path in root.glob("*/*/starts"))


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    paths = [root, *root.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


@pytest.fixture
def shared(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with the toy graph of a team, which nobody may write to; `toy_root` is empty."""
    team = recipe("team")
    for name in team.nodes:
        run = make(team, name, toy_root).folder
        wait_until(lambda run=run: not run.is_running())  # its last word comes after its result
    folder = toy_root.with_name("shared")
    shutil.rmtree(toy_root / ".assigned")
    toy_root.rename(folder)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setenv("OLMO_SHARED_ROOTS", str(folder))
    return folder


def test_the_name_of_a_recipe_is_no_part_of_a_fingerprint() -> None:
    one, other = recipe("one").fingerprints, recipe("other").fingerprints
    assert {k: v.value for k, v in one.items()} == {k: v.value for k, v in other.items()}


def test_another_recipes_result_is_reused_and_only_what_differs_is_made(toy_root: Path) -> None:
    first = make(recipe("one"), "first", toy_root)
    copy = recipe("copy", second={"value": 5})
    again = make(copy, "first", toy_root)
    assert (again.how, again.folder.path) == ("finished before", first.folder.path)
    assert (first.reused_from, again.reused_from) == (None, "one")
    second = make(copy, "second", toy_root)
    assert second.folder.path.parent == toy_root / "copy/second"
    assert second.result["inputs"]["first"] == {
        "fingerprint": first.result["fingerprint"],
        "digest": first.result["digest"],
        "root": "own",
        "path": str(first.folder.path.relative_to(toy_root)),
    }
    finished = copy.finished_asset(toy_root, "second")
    assert finished is not None
    assert finished.inputs["first"].path == first.folder.path
    assert starts(toy_root) == 2


def test_an_equal_beginning_of_a_fingerprint_is_not_enough(toy_root: Path) -> None:
    folder = make(recipe("one"), "first", toy_root).folder
    result = folder.result.read_text()
    value = folder.read_result()["fingerprint"]
    folder.result.write_text(result.replace(value, value[:-1] + ("0" if value[-1] != "0" else "1")))
    assert recipe("copy").finished(toy_root, "first") is None


def test_a_forced_repeat_elsewhere_makes_nothing_stale(toy_root: Path) -> None:
    one, copy = recipe("one", first={"random": True}), recipe("copy", first={"random": True})
    first = make(one, "first", toy_root)
    own = make(copy, "second", toy_root)
    assert own.reused_from is None
    repeated = make(one, "first", toy_root, force=True)
    assert repeated.folder.path.name == first.folder.path.name + ".2"
    assert repeated.result["digest"] != first.result["digest"]
    # `copy` keeps what it has read; `one`, whose input holds other bits now, makes its own.
    assert copy.finished(toy_root, "second") is not None
    found = copy.finished(toy_root, "first")
    assert found is not None
    assert found.path == first.folder.path
    assert one.finished(toy_root, "second") is None
    assert make(one, "second", toy_root).folder.path.parent == toy_root / "one/second"
    assert copy.finished(toy_root, "second").path == own.folder.path  # type: ignore[union-attr]


def test_a_forced_repeat_of_ones_own_lies_in_ones_own_folder_and_is_what_one_reads(
    toy_root: Path,
) -> None:
    one, copy = recipe("one", first={"random": True}), recipe("copy", first={"random": True})
    first = make(one, "first", toy_root)
    make(one, "second", toy_root)
    assert make(copy, "second", toy_root).reused_from == "one"
    forced = make(copy, "first", toy_root, force=True)
    assert forced.folder.path == toy_root / "copy/first" / first.folder.path.name
    assert copy.finished(toy_root, "second") is None
    second = make(copy, "second", toy_root)
    assert second.result["inputs"]["first"]["digest"] == forced.result["digest"]
    assert one.finished(toy_root, "first").path == first.folder.path  # type: ignore[union-attr]


def _make_in_process(name: str, root: str, gate: str, hows: "multiprocessing.Queue[str]") -> None:
    graph = recipe(name, first={"wait": gate})
    made = [make(graph, asset, Path(root)) for asset in graph.nodes]
    hows.put(f"{name} {made[0].how} {made[0].folder.path}")


def test_two_recipes_at_once_from_an_empty_root_make_one_result(
    toy_root: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    hows: multiprocessing.Queue[str] = context.Queue()
    gate = tmp_path / "gate"
    both = [
        context.Process(target=_make_in_process, args=(name, str(toy_root), str(gate), hows))
        for name in ("one", "other")
    ]
    for process in both:
        process.start()
    wait_until(lambda: starts(toy_root) > 0, seconds=60)
    gate.touch()
    answers = sorted(hows.get(timeout=120) for _ in both)
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert len({answer.split()[-1] for answer in answers}) == 1
    assert sum(" launched " in answer for answer in answers) == 1
    assert starts(toy_root) == 2  # one of each asset


def test_a_job_at_work_for_another_recipe_is_followed_and_listed_once_under_it(
    toy_root: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    one, copy = (recipe(name, first={"wait": str(gate)}) for name in ("one", "copy"))
    launcher = LocalLauncher()
    seen: list[str] = []

    class Follower(SilentObserver):
        def started(self, asset: str, folder: RunFolder, how: str) -> None:
            seen.append(f"copy {how}")
            assert [place.label for place in at_work(launcher, toy_root)] == ["one/first"]
            assert at_work(launcher, toy_root, "copy") == {}
            assert [run.path for run in copy.unfinished(toy_root, "first")] == [folder.path]
            # Ctrl-C of the follower ends what it has submitted itself: nothing.
            parent = copy.folder(toy_root, "first")
            assert own_jobs(parent, toy_root) == []
            cancel_jobs(launcher, own_jobs(parent, toy_root))
            assert launcher.state(folder).alive
            assert [run.path for run in own_jobs(one.folder(toy_root, "first"), toy_root)] == [
                folder.path
            ]
            gate.touch()

    class Starter(SilentObserver):
        def started(self, asset: str, folder: RunFolder, how: str) -> None:
            seen.append(f"one {how}")
            work = main_line_work(copy, "first", toy_root)
            made = make_work(work, root=toy_root, launcher=LocalLauncher(), observer=Follower())
            assert made.folder.path == folder.path
            assert made.reused_from == "one"

    work = main_line_work(one, "first", toy_root)
    make_work(work, root=toy_root, launcher=launcher, observer=Starter())
    assert seen == ["one launched", "copy following"]
    assert starts(toy_root) == 1


def test_what_another_recipes_job_has_left_is_continued_and_then_ones_own(toy_root: Path) -> None:
    one, copy = recipe("one"), recipe("copy")
    made = make(one, "first", toy_root)
    # The job lives on for a moment after its result, and would be followed instead.
    wait_until(lambda: not LocalLauncher().state(made.folder).alive)
    made.folder.result.unlink()  # as if it had been killed before the end
    again = make(copy, "first", toy_root)
    assert (again.how, again.folder.path) == ("launched", made.folder.path)
    assert again.result["attempt"] == 2
    assert (again.result["recipe"], again.reused_from) == ("copy", None)
    assert make(one, "first", toy_root).reused_from == "copy"


def test_an_assigned_folder_that_was_deleted_is_assigned_anew(toy_root: Path) -> None:
    def assigned(name: str, value: int = 1) -> Path:
        graph = recipe(name, first={"value": value})
        path = launch_of(main_line_work(graph, "first", toy_root), toy_root).folder.path
        assert path.name == graph.fingerprints["first"].version
        return path.parent

    one, copy = toy_root / "one/first", toy_root / "copy/first"
    assert assigned("one") == one
    assert assigned("copy") == one
    assert assigned("copy", value=2) == copy
    shutil.rmtree(toy_root / "one")
    assert assigned("copy") == copy
    assert assigned("one") == copy


def test_a_shared_result_is_used_checked_once_and_never_written(
    toy_root: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stamps(shared)
    mine = recipe("mine", second={"value": 5})
    first = make(mine, "first", toy_root)
    assert (first.how, first.reused_from) == ("finished before", str(shared))
    second = make(mine, "second", toy_root)
    assert second.result["report"]["numbers"]["value"] == 6
    recorded = second.result["inputs"]["first"]
    assert recorded["root"] == str(shared)
    assert shared / recorded["path"] == first.folder.path
    finished = mine.finished_asset(toy_root, "second")
    assert finished is not None
    assert finished.inputs["first"].path == first.folder.path
    # What a shared result has read lies in its own root.
    theirs = recipe("other").finished_asset(toy_root, "second")
    assert theirs is not None
    assert theirs.inputs["first"].path == first.folder.path
    assert checkpoints(mine, toy_root).whole == {}

    def read_again(path: Path, read_so_far: object) -> str:
        raise AssertionError(f"{path}: compared before")

    monkeypatch.setattr("assets.execution.whole._sha256", read_again)
    make(mine, "first", toy_root)
    assert stamps(shared) == before
    assert starts(toy_root) == 1


def test_a_result_in_a_shared_root_that_is_stale_is_compared_with(
    toy_root: Path, shared: Path
) -> None:
    team = recipe("team", second={"value": 5})
    assert planned(team, toy_root, "second") == ("stale", ["config value: absent → 5"])
    own = make(team, "second", toy_root)
    assert latest_finished(team, toy_root, "second").path == own.folder.path  # type: ignore[union-attr]
    assert planned(recipe("mine", second={"value": 6}), toy_root, "second")[0] == "missing"


@pytest.mark.parametrize(
    ("damage", "said"),
    [(b"7", "its SHA-256 is not"), (b"12", "2 bytes, 1 were written"), (None, "gone")],
)
def test_a_damaged_shared_file_is_named_with_what_to_do(
    toy_root: Path, shared: Path, damage: bytes | None, said: str
) -> None:
    mine = recipe("mine")
    folder = mine.finished(toy_root, "first")
    assert folder is not None
    value, stamp = folder.path / "value", folder.result.stat().st_mtime_ns
    value.unlink()
    if damage is not None:
        value.write_bytes(damage)
        os.utime(value, ns=(stamp - 10**9, stamp - 10**9))  # as a copy keeps it
    for asset in ("first", "second"):
        graph = recipe("mine", second={"value": 5})
        with pytest.raises(Refused, match=rf"value: {said}.*make a result of your own"):
            make(graph, asset, toy_root)
    assert starts(toy_root) == 0
    own = make(mine, "first", toy_root, force=True)
    assert own.folder.path.parent == toy_root / "mine/first"
    assert make(recipe("mine", second={"value": 5}), "second", toy_root).how == "launched"


def test_a_shared_root_that_is_not_there_or_not_apart_is_an_error(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy_root.mkdir()
    for path, said in (
        (tmp_path / "nowhere", "no such folder"),
        (toy_root, "not apart"),
        (tmp_path, "not apart"),
    ):
        monkeypatch.setenv("OLMO_SHARED_ROOTS", str(path))
        with pytest.raises(ConfigError, match=f"OLMO_SHARED_ROOTS: {path}: {said}"):
            recipe("mine").finished(toy_root, "first")
