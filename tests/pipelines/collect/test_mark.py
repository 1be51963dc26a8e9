"""What stays and what may go, against reachability by brute force and in each case by itself."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from assets.execution.reused import record_reuse
from assets.launcher import Refused
from olmo_core.files import read_json, write_json
from olmo_core.run.accepted import Acceptance, write_acceptance
from olmo_core.run.folder import RunFolder, locked
from pipelines.collect.collection import Asked, Found, find
from pipelines.collect.decisions import pin, record_release, unpin
from pipelines.collect.mark import Recipes
from pipelines.launchers.local import LocalLauncher
from tests.pipelines.collect.roots import LONG_AGO, Made, version

NO_RECIPES = Recipes(graphs={}, broken={})
DAY = 86400.0


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "root")


def found(made: Made, days: float = 7, *only: str, **options: bool) -> Found:
    asked = Asked(older_than_seconds=days * DAY, only=only, **options)
    return find(made.root, NO_RECIPES, LocalLauncher(), asked)


def goes(made: Made, days: float = 7) -> set[str]:
    return set(found(made, days).goes)


@pytest.mark.parametrize("seed", range(25))
def test_what_goes_is_what_brute_force_finds(made: Made, seed: int) -> None:
    dice = random.Random(seed)
    now = time.time()
    lines = [f"{r}/{a}" for r in ("one", "two", "three") for a in ("raw", "tokens", "stage1")]
    lines += [f"one/checkpoint_downstream/stage1@step{step}" for step in (10, 20)]
    roots: set[str] = set()
    for number in range(60):
        name = f"{dice.choice(lines)}/{version(number)}"
        ended = dice.choice([None, LONG_AGO + number * DAY, now - 20 * DAY + number, now - number])
        touched = LONG_AGO + number * DAY if ended is None else ended
        earlier = [*made.inputs]
        inputs = dice.sample(earlier, min(len(earlier), dice.choice([0, 0, 1, 2, 3])))
        made.run(name, inputs, ended=ended, touched=touched)
        if touched > now - 7 * DAY:
            roots.add(name)
    for name in dice.sample([*made.inputs], 3):
        pin(made.root, name, "")
        roots.add(name)
    released = dice.choice([*made.inputs])
    record_release(made.root, [made.root / released], "org/name")
    reused = dice.choice([*made.inputs])
    record_reuse(made.root / "four/raw", RunFolder(made.root / reused), made.root)
    roots |= {released, reused}
    for line in lines:
        of = [name for name in made.inputs if name.rpartition("/")[0] == line]
        ended = {name: end for name in of if (end := made.finished[name]) is not None}
        if ended:
            roots.add(max((end, name) for name, end in ended.items())[1])
        for name in of:
            # replaced too lately
            last = ended.get(name, LONG_AGO + int(name.rpartition("/")[2], 16) * DAY)
            newer = [end for end in ended.values() if end > last]
            if newer and min(newer) > now - 7 * DAY:
                roots.add(name)
    assert goes(made) == set(made.inputs) - made.reachable(roots)


def test_superseded_versions_go_and_the_newest_stays_with_all_it_was_made_from(made: Made) -> None:
    old, new = version(1), version(2)
    made.run(f"a/raw/{old}")
    made.run(f"a/raw/{new}", ended=LONG_AGO + 1)
    made.run(f"a/tokens/{old}", [f"a/raw/{old}"])
    assert goes(made) == set()
    made.run(f"a/tokens/{new}", [f"a/raw/{new}"], ended=LONG_AGO + 2)
    assert list(found(made).goes) == [f"a/tokens/{old}", f"a/raw/{old}"]  # readers first
    pin(made.root, f"a/tokens/{old}", "wanted")
    assert goes(made) == set()
    unpin(made.root, f"a/tokens/{old}")
    assert len(goes(made)) == 2


def test_what_was_at_work_or_the_newest_lately_stays(made: Made) -> None:
    now = time.time()
    made.run("a/raw/" + version(1))
    made.run("a/raw/" + version(2), ended=now - 2 * DAY, touched=now - 2 * DAY)
    made.run("a/tokens/" + version(3), ended=None, touched=now - 2 * DAY)
    assert goes(made, 3) == set()
    assert goes(made, 1) == {"a/raw/" + version(1), "a/tokens/" + version(3)}


def test_a_training_that_did_not_finish_stays_until_another_has(made: Made) -> None:
    begun = "a/stage1/" + version(1)
    made.run(begun, ended=None, checkpoints=[10])
    made.run("a/stage1/" + version(2), ended=None)
    assert goes(made) == {"a/stage1/" + version(2)}
    made.run("a/stage1/" + version(3), ended=LONG_AGO + 1)
    assert goes(made) == {"a/stage1/" + version(2), begun}


def test_a_fork_of_a_checkpoint_keeps_the_run_that_it_was_forked_from(made: Made) -> None:
    old = "a/stage1/" + version(1)
    made.run(old, checkpoints=[300])
    made.run("a/stage1/" + version(2), ended=LONG_AGO + 1)
    assert goes(made) == {old}
    # The root was moved since: what it is called now is no part of what is depended on.
    config = {"load": {"paths": [f"/elsewhere/root/{old}/checkpoints/step300"]}}
    made.run("b/stage1/" + version(3), config=config)
    assert goes(made) == set()
    assert found(made).stays[old] == "read by b/stage1/" + version(3)


def test_a_record_whose_path_is_gone_keeps_what_has_its_fingerprint(made: Made) -> None:
    made.run("a/raw/" + version(1))
    made.run("a/raw/" + version(2), ended=LONG_AGO + 1)
    made.run("b/raw/" + version(1))
    made.run("b/raw/" + version(9), ended=LONG_AGO + 1)
    made.run("c/tokens/" + version(3), ["b/raw/" + version(1)])
    assert goes(made) == {"a/raw/" + version(1)}
    shutil.rmtree(made.root / "b/raw" / version(1))
    assert goes(made) == set()


def test_an_index_stays_with_the_tokens_that_it_is_of(made: Made) -> None:
    old, new = version(1), version(2)
    for number, when in ((old, LONG_AGO), (new, LONG_AGO + 1)):
        made.run(f"a/tokens/{number}", ended=when)
        made.run(f"a/documents/{number}", [f"a/tokens/{number}"], ended=when)
        made.run(f"a/stage1/{number}", [f"a/tokens/{number}"], ended=when)
        made.run(f"a/export/{number}", [f"a/stage1/{number}"], ended=when)
    assert goes(made) == {f"a/{each}/{old}" for each in ("tokens", "documents", "stage1", "export")}
    record_release(made.root, [made.root / f"a/export/{old}"], "org/name")
    assert goes(made) == set()
    assert found(made).stays[f"a/documents/{old}"] == f"the index of a/tokens/{old}"


def test_both_sides_of_an_acceptance_stay(made: Made) -> None:
    for number in range(4):
        made.run("a/raw/" + version(number), ended=LONG_AGO + number)
    parts = {number: {"fingerprint": version(number) * 5} for number in range(2)}
    write_acceptance(
        made.root,
        Acceptance(
            recipe="a", asset="raw", who="me", when="2026-01-01", because="equal", differences=[],
            old=parts[0], new=parts[1],
        ),
    )  # fmt: skip
    assert goes(made) == {"a/raw/" + version(2)}
    assert "accepted by me" in found(made).stays["a/raw/" + version(0)]


def test_what_is_at_work_stays_and_what_it_reads(made: Made) -> None:
    made.run("a/raw/" + version(1))
    made.run("a/raw/" + version(2), ended=LONG_AGO + 1)
    job = made.run("b/tokens/" + version(3), ["a/raw/" + version(1)], ended=None)
    assert goes(made) == {"a/raw/" + version(1), "b/tokens/" + version(3)}
    for lock in ("job.lock", "submit.lock", "supervise.lock"):
        with locked(job.path / lock):
            assert goes(made, 0) == set()
    assert goes(made, 0) == {"a/raw/" + version(1), "b/tokens/" + version(3)}


def test_a_job_of_another_machine_stays_as_long_as_it_gives_signs_of_life(made: Made) -> None:
    made.run("a/raw/" + version(1), ended=LONG_AGO)
    made.run("a/raw/" + version(2), ended=LONG_AGO + 1)
    job = made.run("b/tokens/" + version(3), ["a/raw/" + version(1)], ended=None)
    write_json(job.launch, {**read_json(job.launch), "host": "elsewhere"})
    for path in (job.launch, job.path):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert len(goes(made, 0)) == 2
    (job.path / "status.json").write_text("{}")
    assert goes(made, 0) == set()
    assert "elsewhere" in found(made, 0).stays["b/tokens/" + version(3)]


def test_what_cannot_be_read_stays_and_what_its_letters_name(made: Made) -> None:
    made.run("a/raw/" + version(1))
    made.run("a/raw/" + version(2), ended=LONG_AGO + 1)
    torn = made.run("b/tokens/" + version(3), ["a/raw/" + version(1)], touched=LONG_AGO)
    made.run("b/tokens/" + version(4), ended=LONG_AGO + 1)
    everything = {"a/raw/" + version(1), "b/tokens/" + version(3)}
    assert goes(made) == everything
    for path in (torn.result, torn.launch):
        whole = path.read_text()
        path.write_text(whole[:-8])
        assert goes(made) == set()
        assert "cannot be read" in found(made).stays["b/tokens/" + version(3)]
        path.write_text(whole)
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert goes(made) == everything
    torn.launch.write_text("[]")
    torn.result.write_text("")
    torn.config.write_text("{")
    said = found(made)
    assert said.goes == {}
    assert "may depend on it" in said.stays["a/raw/" + version(1)]


def test_a_decision_that_cannot_be_read_ends_everything(made: Made) -> None:
    made.run("a/raw/" + version(1))
    pin(made.root, "a/raw/" + version(1), "")
    (made.root / ".pinned/a/raw" / f"{version(1)}.json").write_text("{")
    with pytest.raises(ValueError, match=r"\.pinned/a/raw"):
        found(made)


def test_of_a_recipe_that_cannot_be_read_everything_stays(made: Made) -> None:
    made.run("a/raw/" + version(1))
    made.run("a/raw/" + version(2), ended=LONG_AGO + 1)
    broken = Recipes(graphs={}, broken={"a": "corpus.yaml:3: raw: unknown key"})
    asked = Asked(older_than_seconds=0)
    said = find(made.root, broken, LocalLauncher(), asked)
    assert said.goes == {}
    assert "corpus.yaml:3" in said.stays["a/raw/" + version(1)]


def test_a_file_that_no_job_has_written_keeps_its_run(made: Made) -> None:
    old = made.run("a/tokens/" + version(1), ["a/raw/" + version(0)])
    made.run("a/tokens/" + version(2), ended=LONG_AGO + 1)
    made.run("a/raw/" + version(0))
    made.run("a/raw/" + version(5), ended=LONG_AGO + 1)
    assert len(goes(made)) == 2
    (old.path / "notes.md").write_text("mine")
    os.utime(old.path, (LONG_AGO, LONG_AGO))
    said = found(made)
    assert said.goes == {}
    assert said.stays["a/tokens/" + version(1)] == "holds notes.md, which its job has not written"


def test_links_are_read_through_and_never_taken_away(made: Made, tmp_path: Path) -> None:
    made.run("a/raw/" + version(1))
    made.run("a/raw/" + version(2), ended=LONG_AGO + 1)
    made.run("b/tokens/" + version(3), ["a/raw/" + version(1)])
    made.run("b/tokens/" + version(4), ended=LONG_AGO + 1)
    (made.root / "b").rename(tmp_path / "disk")
    (made.root / "b").symlink_to(tmp_path / "disk")
    assert goes(made) == set()
    assert found(made).stays["a/raw/" + version(1)] == "read by b/tokens/" + version(3)


def test_a_file_with_two_names_is_freed_only_with_both_and_a_sparse_one_by_its_blocks(
    made: Made,
) -> None:
    old = made.run("a/stage1/" + version(1), files={"model": os.urandom(1 << 20)})
    made.run("a/stage1/" + version(2), ended=LONG_AGO + 1)
    export = made.run("a/export/" + version(3), files={})
    os.link(old.path / "model", export.path / "model")
    with (old.path / "log/sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    os.utime(old.path, (LONG_AGO, LONG_AGO))
    assert 0 < sum(found(made).freed.values()) < 1 << 19
    made.run("a/export/" + version(4), ended=LONG_AGO + 1)
    for path in (export.path, export.path / "model"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert 1 << 20 <= sum(found(made).freed.values()) < (1 << 20) + (1 << 19)


def test_a_named_version_goes_only_with_what_depends_on_it(made: Made) -> None:
    raw, tokens, stage1 = (f"a/{each}/{version(1)}" for each in ("raw", "tokens", "stage1"))
    made.run(raw)
    made.run(tokens, [raw])
    made.run(stage1, [tokens])
    with pytest.raises(Refused, match="these 2 were made from it"):
        found(made, 7, raw)
    assert list(found(made, 7, raw, dependents=True).goes) == [stage1, tokens, raw]
    assert set(found(made, 7, raw, tokens, stage1).goes) == {raw, tokens, stage1}
    pin(made.root, tokens, "mine")
    with pytest.raises(Refused, match=f"olmo unpin {tokens}"):
        found(made, 7, raw, dependents=True)
    unpin(made.root, tokens)
    record_release(made.root, [made.root / stage1], "org/name")
    with pytest.raises(Refused, match="org/name; --released"):
        found(made, 7, raw, dependents=True)
    assert len(found(made, 7, raw, dependents=True, released=True).goes) == 3
    with locked(made.root / stage1 / "job.lock"), pytest.raises(Refused, match="at work"):
        found(made, 7, raw, dependents=True, released=True)
