"""What a replay repeats, and how it is compared: on run folders written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.errors import InputError
from olmo_core.files import sha256_file, write_json
from olmo_core.lineage.compare_replay import compare, described
from olmo_core.lineage.replay import (
    Stretch,
    last_stretch,
    prepare,
    proving_stretches,
    stretch_before,
)
from olmo_core.run.folder import RunFolder

TINY = yaml.safe_load((Path(__file__).parents[2] / "recipes/tiny/stage1.yaml").read_text())
LOSS, NORM = "train/CrossEntropyLoss", "optim/total_grad_norm"


def write_run(
    folder: Path,
    *,
    losses: Mapping[int, float],
    checkpoints: Mapping[int, bytes] | None = None,
    launch: Mapping[str, Any] | None = None,
    end: int | None = None,
    origin: int = 0,
) -> RunFolder:
    """Write a training's folder: losses by step, a file of weights by step; `end` finishes it."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump({**TINY, "save_folder": str(folder)}))
    rows = ({"step": step, LOSS: loss, NORM: 1.0, "time": 7} for step, loss in losses.items())
    run.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_json(run.launch, {"schema_version": 1, **(launch or {})})
    for step, content in (checkpoints or {}).items():
        state = folder / "checkpoints" / f"step{step}" / "model_and_optim"
        state.mkdir(parents=True)
        (state / "0.distcp").write_bytes(content)
        (state / ".metadata").write_text(str(folder))  # names its place, so it is not compared
        write_json(state.parent / "train.json", {"origin": origin})
        names = ("model_and_optim/0.distcp", "model_and_optim/.metadata")
        files = {name: describe(state.parent / name) for name in names}
        write_json(state.parent / "manifest.json", {"schema_version": 1, "files": files})
    if end is not None:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"w")
        files = {"model/weights": describe(folder / "model" / "weights")}
        report = {"data": {"step": end, "first_step": origin}}
        write_json(run.result, {"schema_version": 1, "files": files, "report": report})
    return run


def describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def test_it_begins_at_the_checkpoint_before_and_ends_with_the_run(tmp_path: Path) -> None:
    losses = {step: 1.0 for step in range(1, 31)}
    run = write_run(tmp_path / "run", losses=losses, checkpoints={10: b"a", 20: b"b"})
    for step, steps, start, end, from_beginning in (
        (1, 5, 0, 5, True),
        (10, 5, 0, 14, True),  # the checkpoint of step 10 is after that step
        (11, 5, 10, 15, False),
        (25, 100, 20, 30, False),
    ):
        found = stretch_before(run, step, steps)
        assert (found.start, found.end, found.from_beginning) == (start, end, from_beginning)
    for step in (0, 31):
        with pytest.raises(InputError, match=rf"step {step}: .* has steps 1 to 30"):
            stretch_before(run, step, 5)
    with pytest.raises(InputError, match="no step's figures"):
        stretch_before(write_run(tmp_path / "empty", losses={}), 1, 5)


def test_what_proves_a_change_harmless(tmp_path: Path) -> None:
    losses, kept = {step: 1.0 for step in range(1, 31)}, {10: b"a", 15: b"", 20: b"b", 30: b"c"}
    run = write_run(tmp_path / "run", losses=losses, checkpoints=kept, end=30)
    pairs = [(one.start, one.end) for one in proving_stretches(run, 5)]
    assert pairs == [(0, 5), (10, 15), (20, 25), (30, 30)]
    del kept[30]
    lacking = write_run(tmp_path / "lacking", losses=losses, checkpoints=kept, end=30)
    with pytest.raises(InputError, match="no checkpoint of step 30"):
        proving_stretches(lacking, 5)


def test_a_run_that_counts_on_from_another_begins_where_that_stood(tmp_path: Path) -> None:
    losses, kept = {step: 1.0 for step in range(301, 331)}, {310: b"a", 330: b"b"}
    run = write_run(tmp_path / "run", losses=losses, checkpoints=kept, end=330, origin=300)
    stretches = proving_stretches(run, 5)
    assert [(one.start, one.end) for one in stretches] == [(300, 305), (310, 315), (330, 330)]
    assert [one.from_beginning for one in stretches] == [True, False, False]
    assert not (tmp_path / "replay" / "checkpoints").exists()
    prepare(stretches[0], tmp_path / "replay")  # there is no checkpoint of step 300 here
    assert stretch_before(run, 305, 2) == Stretch(run=run, start=300, end=306, from_beginning=True)
    with pytest.raises(InputError, match=r"step 300: .* has steps 301 to 330"):
        stretch_before(run, 300, 2)


def test_it_has_a_copy_of_the_checkpoint_and_reports_to_nobody(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", losses={11: 1.0}, checkpoints={10: b"a"})
    tree = yaml.safe_load(run.config.read_text())
    tree |= {"remote_save_folder": "s3://bucket/run", "wandb": {"project": "p"}}
    tree["evaluators"] = [{"label": "piqa", "type": "downstream"}]
    run.config.write_text(yaml.safe_dump(tree))
    folder = tmp_path / "replay"
    (folder / "checkpoints" / "step12").mkdir(parents=True)  # of an earlier replay
    config = prepare(Stretch(run=run, start=10, end=12), folder)
    assert config["save_folder"] == str(folder)
    assert config["stop_at"] == 12
    for key in ("remote_save_folder", "wandb", "evaluators"):
        assert not config[key]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step10"]
    (run.path / "checkpoints" / "step10" / "model_and_optim" / "0.distcp").write_bytes(b"b")
    with pytest.raises(InputError, match="content has changed"):
        prepare(Stretch(run=run, start=10, end=12), folder)


def test_equal_bits_are_equal_and_one_that_is_not_is_named(tmp_path: Path) -> None:
    losses, kept = {11: 2.5, 12: 2.25}, {12: b"w"}
    run = write_run(tmp_path / "run", losses={10: 3.0, **losses, 13: 1.0}, checkpoints=kept)
    stretch = Stretch(run=run, start=10, end=12)
    write_run(tmp_path / "same", losses=losses, checkpoints=kept)
    same = compare(stretch, tmp_path / "same")
    assert (same.bitwise, same.steps, same.checkpoints, same.model) == (True, 2, (12,), False)
    assert described(same) == (
        "steps 11 to 12: 2 with figures, weights and moments of 12; every bit is equal"
    )
    write_run(tmp_path / "loss", losses={**losses, 12: 2.25 + 2**-40}, checkpoints=kept)
    loss = compare(stretch, tmp_path / "loss")
    assert [(each.what, each.step) for each in loss.differences] == [(LOSS, 12)]
    assert not loss.bitwise
    assert loss.within_tolerance
    assert "different: step 12" in described(loss), "no rounding explains it in the same place"
    write_run(tmp_path / "weight", losses=losses, checkpoints={12: b"v"})
    weight = compare(stretch, tmp_path / "weight")
    assert [each.what for each in weight.differences] == ["model_and_optim/0.distcp"]
    assert not weight.within_tolerance
    nan = write_run(tmp_path / "nan", losses={11: 2.5, 12: float("nan")}, checkpoints=kept)
    assert not compare(stretch, nan.path).within_tolerance
    assert compare(Stretch(run=nan, start=10, end=12), nan.path).bitwise


def test_a_file_that_one_side_alone_has_is_a_difference(tmp_path: Path) -> None:
    losses, kept = {11: 2.5}, {11: b"w"}
    run = write_run(tmp_path / "run", losses=losses, checkpoints=kept, end=11)
    replay = write_run(tmp_path / "replay", losses=losses, checkpoints=kept, end=11)
    manifest = replay.path / "checkpoints/step11/manifest.json"
    for path in (manifest, replay.result):
        content = json.loads(path.read_text())
        content["files"] = {
            name.replace("0.distcp", "1.distcp").replace("weights", "weights2"): entry
            for name, entry in content["files"].items()
        }
        write_json(path, content)
    found = compare(Stretch(run=run, start=10, end=11), replay.path)
    assert [each.what for each in found.differences] == [
        "model/weights",
        "model/weights2",
        "model_and_optim/0.distcp",
        "model_and_optim/1.distcp",
    ]
    assert not found.within_tolerance


def test_elsewhere_rounding_is_no_difference(tmp_path: Path) -> None:
    place = {"run": {"processes_per_node": 1, "threads": 2}, "versions": {"torch": "2"}}
    other = {"run": {"processes_per_node": 2, "threads": 1}, "versions": {"torch": "2"}}
    run = write_run(tmp_path / "run", losses={11: 2.5}, launch=place, checkpoints={11: b"w"})
    stretch = Stretch(run=run, start=10, end=11)
    for loss, within in ((2.5 + 1e-6, True), (2.6, False)):
        folder = tmp_path / f"elsewhere{loss}"
        write_run(folder, losses={11: loss}, launch=other, checkpoints={11: b"v"})
        found = compare(stretch, folder)
        assert found.elsewhere == ("ranks per node 1 → 2", "threads 2 → 1")
        assert found.within_tolerance == within
        assert ("equal within 0.001" in described(found)) == within
        assert "other bits in model_and_optim/0.distcp" in described(found)


def test_nothing_in_common_is_no_proof(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", losses={20: 2.5})
    write_run(tmp_path / "replay", losses={11: 2.5})
    with pytest.raises(InputError, match=r"no figure of steps 11 to 12.*give more steps"):
        compare(Stretch(run=run, start=10, end=12), tmp_path / "replay")


def test_a_model_written_anew_is_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", losses={11: 2.5}, checkpoints={11: b"w"}, end=11)
    replay = write_run(tmp_path / "replay", losses={}, checkpoints={11: b"w"}, end=11)
    stretch = Stretch(run=run, start=11, end=11)
    assert described(compare(stretch, replay.path)) == (
        "the model of step 11, written anew; every bit is equal"
    )
    result = json.loads(replay.result.read_text())
    result["files"]["model/weights"]["sha256"] = "0" * 64
    write_json(replay.result, result)
    write_json(replay.launch, {"schema_version": 1, "host": "another"})
    found = compare(stretch, replay.path)
    assert found.elsewhere == ("host None → another",)
    assert not found.within_tolerance, "no step was made, so nothing was rounded"


def test_the_last_stretch_begins_at_the_last_checkpoint_with_steps_after_it(tmp_path: Path) -> None:
    losses = {step: 1.0 for step in range(1, 31)}
    kept = {10: b"a", 20: b"b", 30: b"c"}
    run = write_run(tmp_path / "run", losses=losses, checkpoints=kept, end=30)
    assert last_stretch(run, 4) == Stretch(run=run, start=20, end=24)
    assert last_stretch(run, 40) == Stretch(run=run, start=20, end=30)
    only = write_run(tmp_path / "only", losses=losses, checkpoints={30: b"c"}, end=30)
    assert last_stretch(only, 4) == Stretch(run=only, start=0, end=4, from_beginning=True)
