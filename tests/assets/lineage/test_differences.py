"""In what two runs differ, on run folders written by hand: the cause, and nothing else as cause."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict_saver import save

from assets.fingerprint import sha256_json
from assets.lineage.causes import Found, find_causes
from assets.lineage.differences import Differences, compare_sides
from assets.lineage.sides import find_side
from olmo_core.errors import ConfigError
from olmo_core.files import write_json
from pipelines.cli.diff import _panels, entry, line, print_differences
from tests.conftest import printed

LOSS, TOKENS = "train/CrossEntropyLoss", "throughput/total_tokens"
HASHES = {"class Schedule": "1", "function step": "2"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def write_run(
    root: Path,
    recipe: str,
    asset: str,
    *,
    config: Mapping[str, Any] | None = None,
    definitions: Mapping[str, str] = HASHES,
    inputs: Sequence[Path] = (),
    data: Mapping[str, Any] | None = None,
    losses: Sequence[float] = (),
    weight: float | None = None,
    module: str = "olmo_core.train",
    threads: int = 1,
    save_interval: int = 10,
    digest: str = "",
) -> Path:
    """Write the folder of a finished run, and return it."""
    made_from: dict[str, Any] = {}
    for folder in inputs:
        read = json.loads((folder / "result.json").read_text())
        known = {key: read[key] for key in ("fingerprint", "digest")}
        path = str(folder.relative_to(root))
        made_from[read["asset"]] = {**known, "root": "own", "path": path}
    parts = {
        "module": module,
        "config": config or {},
        "code": {"olmo_core.optim.schedule": sha256_json(definitions)},
        "packages": {"numpy": "2"},
        "inputs": {name: each["fingerprint"] for name, each in made_from.items()},
    }
    fingerprint = sha256_json(parts)
    folder = root / recipe / asset / fingerprint[:12]
    folder.mkdir(parents=True)
    about = {"schema_version": 1, "recipe": recipe, "asset": asset, "partition": None}
    about |= {"fingerprint": fingerprint, "inputs": made_from}
    job = {"module": module, "nodes": 1, "processes_per_node": 1, "threads": threads}
    launch = {"parts": parts, "definitions": {"olmo_core.optim.schedule": definitions}}
    write_json(folder / "launch.json", {**about, **launch, "run": job, "host": "here"})
    own = {"save_folder": str(folder), "save_interval": save_interval, "core": {"roots": {}}}
    own |= {"global_train_batch_size": 8, "model": {"max_sequence_length": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**own, **(config or {})}))
    report = {"report": {"numbers": {}, "data": dict(data or {})}, "device": "cpu"}
    write_json(folder / "result.json", {**about, **report, "digest": digest or fingerprint})
    rows = ({"step": n, LOSS: loss, TOKENS: 8 * n} for n, loss in enumerate(losses, start=1))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if weight is not None:
        (folder / "model").mkdir()
        tensors = {"blocks.0.w.weight": torch.full((4,), weight), "norm.weight": torch.ones(2)}
        save_file(tensors, folder / "model" / "model.safetensors")
    return folder


def write_training(root: Path, recipe: str, mix: Path, rate: float = 0.5, **more: Any) -> Path:
    order = {"algorithm": "feistel", "seed": 1, "windows": 40, "global_batch_size": 8}
    known: dict[str, Any] = {
        "config": {"optimizer": {"learning_rate": rate}, "seed": 1},
        "inputs": [mix],
        "data": {"order": order, "step": 10},
        "losses": [9.0, 8.0 + rate, 7.0],
        "weight": 1.0 + rate,
    }
    return write_run(root, recipe, "stage1", **{**known, **more})


def write_mix(root: Path, recipe: str, **more: Any) -> Path:
    data = {"manifest_sha256": "0", "tokens": {"books": 100, "web": 300}}
    return write_run(root, recipe, "stage1_mix", **{"data": data, **more})


def compared(root: Path, *folders: Path) -> Differences:
    before, after = (find_side(str(folder), root) for folder in folders)
    return compare_sides(before, after, root)


def lines(found: Sequence[Found]) -> list[str]:
    return [line(each) for each in found]


def test_one_value_is_named_and_nothing_else(root: Path) -> None:
    mix = write_mix(root, "a")
    found = compared(
        root, write_training(root, "a", mix), write_training(root, "b", mix, rate=0.25)
    )
    assert lines(found.causes.own) == ["stage1: optimizer.learning_rate: 0.5 → 0.25"]
    assert (found.causes.because, found.data, found.environment) == ({}, [], [])
    losses = found.losses["stage1"]
    assert (losses.first_step, losses.largest, losses.largest_step) == (2, -0.25, 2)
    weights = found.weights["stage1"]
    assert [(each.name, each.relative) for each in weights.tensors] == [
        ("blocks.0.w.weight", pytest.approx(0.25 / 1.5)),
        ("norm.weight", 0.0),
    ]


def test_equal_runs_differ_in_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mix = write_mix(root, "a")
    runs = write_training(root, "a", mix), write_training(root, "b", mix)
    found = compared(root, *runs)
    assert found.causes.same
    assert (found.causes.own, found.causes.because, found.data, found.environment) == (
        [],
        {},
        [],
        [],
    )
    assert found.losses["stage1"].first_step is None
    assert found.weights["stage1"].equal == 2
    print_differences([str(run) for run in runs], None, as_json=False)
    said = printed(capsys)
    assert "nothing that decides a result differs" in said
    assert "configuration" not in said
    assert "environment" not in said


def test_the_cause_stands_where_it_arose(root: Path) -> None:
    tokens = {"books": 200, "web": 300}
    mix = write_mix(root, "a", config={"repetitions": 1})
    other = write_mix(
        root, "b", config={"repetitions": 2}, data={"manifest_sha256": "1", "tokens": tokens}
    )
    found = compared(root, write_training(root, "a", mix), write_training(root, "b", other))
    assert lines(found.causes.own) == ["stage1_mix: repetitions: 1 → 2"]
    assert found.causes.because == {"stage1": ["stage1_mix"]}
    said = lines(found.data)
    assert "stage1: tokens.books: 100 → 200" in said
    assert not any("web" in each for each in said)
    assert [each.change.what for each in found.data] == [
        "inputs.stage1_mix.digest",
        "inputs.stage1_mix.fingerprint",
        "tokens.books",
    ]


def test_an_input_whose_folder_is_gone_is_itself_the_cause(root: Path) -> None:
    mix, other = write_mix(root, "a"), write_mix(root, "b", config={"repetitions": 2})
    runs = write_training(root, "a", mix), write_training(root, "b", other)
    (other / "launch.json").unlink()
    found = compared(root, *runs)
    [cause] = found.causes.own
    assert line(cause) == f"stage1: input stage1_mix: {mix.name} → {other.name}"
    assert found.causes.because == {}


def test_an_input_of_equal_fingerprint_and_other_bits(root: Path) -> None:
    mix, other = write_mix(root, "a"), write_mix(root, "b", digest="f" * 64)
    found = compared(root, write_training(root, "a", mix), write_training(root, "b", other))
    assert found.causes.own == []
    assert [each.change.what for each in found.data] == ["inputs.stage1_mix.digest"]


def test_what_the_cards_of_two_recipes_say_is_no_cause(root: Path) -> None:
    module = "olmo_core.release.model_card"
    cards = [
        write_run(root, recipe, "model_card", config={"title": recipe}, module=module)
        for recipe in ("a", "b")
    ]
    sides = [find_side(str(card), root) for card in cards]
    said = ['model_card: title: "a" → "b"']
    assert (
        lines(compare_sides(sides[0], sides[1], root).causes.own) == said
    )  # of two cards it is the cause
    other = {"stage1": {"fingerprint": "0", "parts": {"config": {"seed": 1}}}}
    recipes = [replace(side, asset=None, records={**side.records, **other}) for side in sides]
    causes = find_causes(recipes[0], recipes[1])
    assert (lines(causes.own), lines(causes.card)) == ([], said)


def test_code_by_definition_order_and_place(root: Path) -> None:
    mix = write_mix(root, "a")
    order = {"algorithm": "feistel", "seed": 2, "windows": 40, "global_batch_size": 4}
    found = compared(
        root,
        write_training(root, "a", mix),
        write_training(
            root,
            "b",
            mix,
            definitions={**HASHES, "function step": "3"},
            threads=2,
            save_interval=20,
            data={"order": order, "step": 10},
        ),
    )
    assert lines(found.causes.own) == ["stage1: olmo_core.optim.schedule: function step changed"]
    assert lines(found.data) == [
        "stage1: order.epochs: 2.0 → 1.0",
        "stage1: order.global_batch_size: 8 → 4",
        "stage1: order.seed: 1 → 2",
    ]
    assert lines(found.environment) == [
        "stage1: config.save_interval: 10 → 20",
        "stage1: threads: 1 → 2",
    ]


def test_assets_of_other_names_are_compared_as_they_are(root: Path) -> None:
    mix = write_mix(root, "a")
    first = write_training(root, "a", mix)
    config = {"optimizer": {"learning_rate": 0.1}, "seed": 1}
    second = write_run(root, "a", "stage2", config=config, inputs=[mix], losses=[5.0], weight=2.0)
    found = compared(root, first, second)
    assert lines(found.causes.own) == ["stage1 → stage2: optimizer.learning_rate: 0.5 → 0.1"]
    assert list(found.losses) == list(found.weights) == ["stage1 → stage2"]


def test_jobs_of_other_kinds_have_no_values_in_common(root: Path) -> None:
    first = write_training(root, "a", write_mix(root, "a"))
    config = {"method": "mean"}
    soup = write_run(root, "a", "soup", config=config, module="olmo_core.soups", weight=3.0)
    found = compared(root, first, soup)
    assert lines(found.causes.own) == [
        'stage1 → soup: made by: "olmo_core.train" → "olmo_core.soups"'
    ]
    assert (found.data, found.environment) == ([], [])
    assert found.weights["stage1 → soup"].equal == 1


def test_models_that_nobody_here_has_made(root: Path, tmp_path: Path) -> None:
    for name, hidden in (("mine", 8), ("theirs", 16)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"hidden_size": hidden, "layers": 2}))
        save_file({"w": torch.full((3,), float(hidden))}, folder / "model.safetensors")
    found = compared(root, tmp_path / "mine", tmp_path / "theirs")
    assert lines(found.causes.own) == ["model: hidden_size: 8 → 16"]
    assert found.weights["mine → theirs"].whole.relative == 1.0


def test_a_run_and_a_model_of_somebody_have_no_known_cause(root: Path, tmp_path: Path) -> None:
    run = write_training(root, "a", write_mix(root, "a"))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    save_file({"norm.weight": torch.ones(2)}, theirs / "model.safetensors")
    found = compared(root, run, theirs)
    assert not found.causes.same
    assert "no cause is known" in found.notes[0]
    weights = found.weights["stage1 → theirs"]
    assert (weights.equal, len(weights.not_compared)) == (1, 1)


def test_weights_of_checkpoints_are_compared_and_what_has_none_is_named(root: Path) -> None:
    mix = write_mix(root, "a")
    runs = write_training(root, "a", mix), write_training(root, "b", mix, rate=0.25)
    places = [run / "checkpoints" / "step2" for run in runs]
    for place, value in zip(places, (1.0, 1.5), strict=True):
        place.mkdir(parents=True)
        state = {"model.norm.weight": torch.full((2,), value)}
        save(state, checkpoint_id=place / "model_and_optim", no_dist=True)
    found = compared(root, *places)
    assert found.losses["stage1"].last == (2, 2)
    assert found.weights["stage1"].whole.relative == 0.5
    shutil.rmtree(places[1] / "model_and_optim")
    found = compared(root, *places)
    assert not found.weights
    assert f"{places[1]}: no model_and_optim" in found.notes


def test_a_version_in_two_roots_has_two_curves(root: Path, tmp_path: Path) -> None:
    run = write_training(root, "a", write_mix(root, "a"))
    other = shutil.copytree(root, tmp_path / "other") / run.relative_to(root)
    rows = (run / "metrics.jsonl").read_text()
    (other / "metrics.jsonl").write_text(rows.replace("7.0", "6.5"))
    found = compared(root, run, other)
    assert found.losses["stage1"].last_losses == (7.0, 6.5)
    [panel] = _panels([found])
    assert [curve.name for curve in panel.curves] == [str(run), str(other)]


def test_what_is_not_there_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a recipe, one of its assets"):
        find_side("dema/stage1", root)
    with pytest.raises(ConfigError, match="neither a run"):
        find_side(str(tmp_path), root)
    with pytest.raises(ConfigError, match="no version 'x'; there: none"):
        find_side("demo/stage1/x", root)
    with pytest.raises(ConfigError, match="two or more"):
        print_differences(["demo"], None, as_json=False)


def test_json_and_the_picture_of_several(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mix = write_mix(root, "a")
    runs = [
        write_training(root, recipe, mix, rate=rate)
        for recipe, rate in (("a", 0.5), ("b", 0.25), ("c", 0.125))
    ]
    names = [str(run) for run in runs]
    print_differences(names, tmp_path / "losses.svg", as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert [each["after"]["path"] for each in said] == names[1:]
    assert [cause["after"] for each in said for cause in each["causes"]] == [0.25, 0.125]
    assert said[0] == json.loads(json.dumps(entry(compared(root, *runs[:2]))))
    drawn = (tmp_path / "losses.svg").read_text()
    assert all(run.name in drawn for run in runs)
    with pytest.raises(ConfigError, match=r"ends in \.png or \.svg"):
        print_differences(names, tmp_path / "losses.pdf", as_json=True)
