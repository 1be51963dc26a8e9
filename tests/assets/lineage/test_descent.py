"""The descent of models of the demo's graph, on run folders as its jobs would leave them."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prov.model import ProvActivity, ProvAgent, ProvDerivation, ProvDocument, ProvUsage

from assets.assemble import build_graph
from assets.graph import Graph
from assets.lineage.ancestors import ancestors
from assets.lineage.descent import Descent, trace_model
from assets.lineage.provenance import prov_document
from assets.lineage.recorded import raw_files
from assets.lineage.runs import Lineage
from assets.lineage.sides import find_side
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, write_json
from olmo_core.run.accepted import Acceptance, write_acceptance
from olmo_core.run.folder import RunFolder
from pipelines.cli.trace_model import print_model
from tests.assets.made import make_all, unchecked
from tests.conftest import printed

PARENT = {"step": 391, "manifest_sha256": "aa" * 32, "model_sha256": None}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    make_everything(tmp_path / "root")
    return tmp_path / "root"


def make_everything(root: Path) -> None:
    """Make the demo, with what trainings, soup and export report of where they come from."""
    graph = unchecked(build_graph(load_recipe("demo")))
    make_all(graph, root)
    for name in ("stage1", "stage2_ingredient1", "stage2_ingredient2", "stage2_ingredient3"):
        parent = PARENT if name != "stage1" else None
        order = {"seed": 1, "algorithm": "feistel"}
        data = {"step": 391, "tokens": 800, "order": order, "parent": parent}
        started = None if parent is None else f"{made(graph, root, 'stage1')}/checkpoints/step391"
        config = {"load_path": started}
        (made(graph, root, name) / "config.yaml").write_text(yaml.safe_dump(config))
        report(made(graph, root, name), data)
    parents = [{"model": f"stage2_ingredient{k}", "step": 59} for k in (1, 2, 3)]
    report(made(graph, root, "soup"), {"parents": parents, "weights": [0.5, 0.25, 0.25]})
    (made(graph, root, "soup") / "config.yaml").write_text("{}")
    models = [
        {"model": name, "revision": revision, "step": 391, "path": f"exports/{name}", "sha256": "b"}
        for name, revision in (("soup", "main"), ("stage1", "stage1-step391"))
    ]
    report(made(graph, root, "export"), {"models": models})
    (made(graph, root, "export") / "config.yaml").write_text("{}")


def made(graph: Graph, root: Path, name: str) -> Path:
    run = graph.finished(root, name)
    assert run is not None
    return run.path


def report(folder: Path, data: Mapping[str, Any]) -> None:
    result = read_json(folder / "result.json")
    result["report"]["data"] = dict(data)
    write_json(folder / "result.json", result)


def walked(folder: Path, root: Path) -> set[Path]:
    """All run folders behind one, by what result.json says alone."""
    found, waiting = set[Path](), [folder]
    while waiting:
        folder = waiting.pop()
        found.add(folder)
        inputs = json.loads((folder / "result.json").read_text())["inputs"]
        waiting += [root / each["path"] for each in inputs.values()]
    return found


def traced(model: str | None = None) -> Descent:
    return trace_model(Lineage("demo"), model)


def activities(document: ProvDocument) -> set[str]:
    """The folders of the runs in a document."""
    found = [one for one in document.get_records(ProvActivity)]
    places = [next(iter(one.get_attribute("prov:location"))) for one in found]
    return {str(place).removeprefix("file://") for place in places}


@pytest.mark.parametrize("model", [None, "stage1", "stage2_ingredient2", "export"])
def test_the_runs_are_those_of_an_independent_walk(root: Path, model: str | None) -> None:
    descent = traced(model)
    expected = walked(descent.model.run.path, root)
    assert set(descent.runs) == expected
    text = prov_document(descent).serialize()
    back = ProvDocument.deserialize(content=text)
    assert back == prov_document(descent)  # nothing is lost on the way
    assert activities(back) == {str(path) for path in expected}
    used = {
        (str(each.formal_attributes[0][1]), str(each.formal_attributes[1][1]))
        for each in back.get_records(ProvUsage)
    }
    for run in descent.runs.values():
        for each in run.inputs:
            assert (f"run:{run.relative}", f"result:{each.relative}") in used
    order = list(descent.runs)
    assert all(
        order.index(each.folder) < order.index(run.run.path)
        for run in descent.runs.values()
        for each in run.inputs
    )


def test_a_soup_has_weights_parents_seeds_and_revisions(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = prov_document(traced())
    weights = {
        str(each.formal_attributes[1][1]).split("/")[1]: next(iter(found))
        for each in document.get_records(ProvDerivation)
        if (found := each.get_attribute("olmo:weight"))
    }
    assert weights == {
        "stage2_ingredient1": 0.5,
        "stage2_ingredient2": 0.25,
        "stage2_ingredient3": 0.25,
    }
    started = {
        str(each.formal_attributes[0][1])
        for each in document.get_records(ProvDerivation)
        if str(each.formal_attributes[1][1]).startswith("checkpoint:demo/stage1/")
    }
    assert len(started) == 3
    print_model("demo", None, as_json=False)
    said = printed(capsys)
    for part in (
        "× 0.5",
        "from stage1@step391",
        "seed 42",
        "exported as main",
        "source docstrings",
    ):
        assert part in said, part
    assert said.count("(391 steps") == 4  # each run is told once


def test_a_run_folder_that_is_gone_is_named_with_its_readers(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = traced()
    tokens = next(path for path in whole.runs if path.parent.name == "tokens")
    shutil.rmtree(tokens)
    descent = traced()
    [missing] = descent.missing.values()
    assert missing.read.folder == tokens
    assert len(missing.readers) == 6  # two mixes, four trainings
    assert set(whole.runs) - set(descent.runs) == {tokens}  # what it was of, others are of too
    text = prov_document(descent).serialize()
    assert "the run folder is gone" in str(text)
    print_model("demo", None, as_json=False)
    said = printed(capsys)
    assert "gone, read by demo/stage1_mix/" in said
    assert "what it was made from is not known" in said


def test_other_bits_than_were_read_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mix = next(path for path in traced().runs if path.parent.name == "stage1_mix")
    result = read_json(mix / "result.json")
    read, result["digest"] = result["digest"], "f" * 64
    write_json(mix / "result.json", result)
    descent = trace_model(Lineage("demo"), f"stage1/{traced_version(root, 'stage1')}")
    assert list(descent.changed.values()) == ["f" * 64]
    document = prov_document(descent)
    [entity] = document.get_record(f"result:demo/stage1_mix/{mix.name}~{read[:12]}")
    assert entity.get_attribute("olmo:sha256") == {read}
    print_model("demo", f"stage1/{descent.model.run.path.name}", as_json=False)
    assert "read other bits of stage1_mix than stand there now (ffffffffffff)" in printed(capsys)


def traced_version(root: Path, asset: str) -> str:
    [folder] = (root / "demo" / asset).iterdir()
    return folder.name


def test_who_accepted_what_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage1 = root / "demo" / "stage1" / traced_version(root, "stage1")
    launch = read_json(stage1 / "launch.json")
    old = {key: launch[key] for key in ("fingerprint", "parts")}
    acceptance = Acceptance(
        recipe="demo",
        asset="stage1",
        who="Ada [bold]",
        when="2026-01-02T03:04:05+00:00",
        because="same arithmetic",
        differences=["code moved"],
        old=old,
        new={"fingerprint": "9" * 64, "parts": {}},
    )
    write_acceptance(root, acceptance)
    descent = traced()
    assert descent.accepted == {stage1: [acceptance]}
    document = prov_document(descent)
    people = [
        each
        for each in document.get_records(ProvAgent)
        if str(each.identifier).startswith("person:")
    ]
    assert [str(next(iter(each.get_attribute("prov:label")))) for each in people] == ["Ada [bold]"]
    assert document == ProvDocument.deserialize(content=document.serialize())
    print_model("demo", None, as_json=False)
    assert "accepted by Ada [bold] on 2026-01-02: same arithmetic" in printed(capsys)


def test_results_of_a_shared_root_are_walked_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(root, shared)
    for folder in root.glob("demo/*"):
        if folder.name in ("raw", "near_duplicates", "held_out", "filtered", "tokens"):
            shutil.rmtree(folder)
    for path in root.glob("demo/*/*/result.json"):
        for name in ("result.json", "launch.json"):
            content = read_json(path.with_name(name))
            for asset, entry in content["inputs"].items():
                gone = not (root / "demo" / asset).exists()
                entry["root"] = str(shared) if gone else "own"
            write_json(path.with_name(name), content)
    monkeypatch.setenv("OLMO_SHARED_ROOTS", str(shared))
    descent = traced()
    assert not descent.missing
    assert {path.parent.name for path in descent.runs if path.is_relative_to(shared)} >= {
        "raw",
        "tokens",
    }
    document = prov_document(descent)
    assert activities(document) == {str(path) for path in descent.runs}
    assert len([*document.get_records(ProvActivity)]) == len(descent.runs)  # no name stands for two


def test_what_no_asset_made_is_listed_with_size_and_digest() -> None:
    config = {
        "sources": [
            {"name": "mine", "packages": [], "urls": ""},
            {"name": "web", "packages": [], "urls": "/lists/urls.txt"},
            {"name": "c4", "packages": [], "dataset": "allenai/c4", "revision": "a" * 40},
        ],
        "files": {"mine": [{"path": "a b.txt", "bytes": 5 << 40, "sha256": "c" * 64}]},
        "urls": {"web": "d" * 64},
        "packages": {},
    }
    run = ancestor({"module": "olmo_core.corpus.intake.raw", "config": config})
    found = {each.source: each for each in raw_files(run)}
    assert (found["mine"].place, found["mine"].bytes) == ("a b.txt", 5 << 40)
    assert (found["web"].sha256, found["web"].is_list) == ("d" * 64, True)
    assert found["c4"].place == f"pkg:huggingface/datasets/allenai/c4@{'a' * 40}"
    published = {"files": [{"url": "https://x.org/a.npy"}, {"name": "b.npy", "bytes": 4}]}
    run = ancestor(
        {"module": "olmo_core.corpus.tokens", "config": {"published_files": {"p": published}}}
    )
    assert [each.place for each in raw_files(run)] == ["https://x.org/a.npy", "b.npy"]


def ancestor(parts: Mapping[str, Any]) -> Any:
    from assets.lineage.ancestors import Ancestor

    return Ancestor(
        run=RunFolder(Path("/r/demo/raw/0")), launch={"parts": parts}, result=None, inputs=()
    )


def test_many_ways_to_one_run_are_walked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path))
    depth = 60  # with two ways at each: 2**60 paths
    for level in range(depth):
        for side in "ab":
            inputs = {
                f"{other}{level - 1}": {
                    "root": "own",
                    "path": f"demo/{other}{level - 1}/0",
                    "fingerprint": "0",
                    "digest": "0",
                }
                for other in ("ab" if level else "")
            }
            folder = tmp_path / "demo" / f"{side}{level}" / "0"
            folder.mkdir(parents=True)
            about = {"schema_version": 1, "asset": folder.parent.name, "recipe": "demo"}
            write_json(folder / "launch.json", {**about, "inputs": inputs, "parts": {"config": {}}})
    top = tmp_path / "demo" / f"a{depth - 1}" / "0"
    began = time.monotonic()
    assert len(ancestors(RunFolder(top))) == 2 * depth - 1
    assert len(find_side(str(top), tmp_path).records) == 2 * depth - 1
    assert time.monotonic() - began < 30


def test_what_is_no_model_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="makes no model 'sup'; did you mean 'soup'"):
        traced("sup")
    with pytest.raises(ConfigError, match="no checkpoint of step 7; there: none"):
        traced("stage1@step7")
    soup = traced().model.run
    (soup.path / "launch.json").write_text('{"schema_version": 0}')
    with pytest.raises(InputError, match="expected schema_version 1"):
        traced(f"soup/{soup.path.name}")


def test_a_run_of_which_only_the_result_is_left(root: Path) -> None:
    mix = next(path for path in traced().runs if path.parent.name == "stage1_mix")
    (mix / "launch.json").unlink()
    descent = traced()
    assert not descent.missing
    assert descent.runs[mix].relative == f"demo/stage1_mix/{mix.name}"
