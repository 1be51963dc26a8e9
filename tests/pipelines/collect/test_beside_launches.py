"""Taking away beside launches and jobs: nothing goes that one of them reads."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from assets.execution.hold import results_held
from assets.execution.produce import launch_of, main_line_work
from assets.launcher import Refused
from olmo_core.run.folder import locked
from pipelines.collect import collection
from pipelines.launchers.local import LocalLauncher
from tests.assets.execution.test_produce import wait_until
from tests.assets.execution.test_reuse import make, recipe
from tests.pipelines.collect.collecting import NOW, a_root, run_gc
from tests.pipelines.collect.roots import LONG_AGO, Made, version


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
