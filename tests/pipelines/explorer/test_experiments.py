"""Which experiment an address means: of several roots, of another recipe, and without a version."""

import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from assets.assemble import build_graph
from assets.recipe import load_recipe
from tests.pipelines.explorer.conftest import VERSION, make_run, recorded, write

OTHER = "abcdef012345"


@pytest.fixture
def shared(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared root beside the own one, both empty."""
    made = root.parent / "shared"
    made.mkdir()
    monkeypatch.setenv("OLMO_SHARED_ROOTS", str(made))
    return made


@pytest.fixture
def copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe that is the demo under another name, so that it reuses what the demo has."""
    folder = root.parent / "recipes" / "copy"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("extends: demo\n")
    monkeypatch.setenv("OLMO_RECIPES", str(folder.parent))
    return folder.name


def make_current(root: Path) -> Path:
    """Write a finished first stage of the demo as it stands."""
    fingerprint = build_graph(load_recipe("demo")).fingerprints["stage1"]
    run = make_run(root, f"demo/stage1/{fingerprint.version}")
    for name in ("launch.json", "result.json"):
        record = json.loads((run / name).read_text())
        place = {"digest": "", "root": "own", "path": "demo/gone"}
        inputs = {key: place for key in ("stage1_mix", "tokens", "tokenizer")}
        write(run / name, {**record, "fingerprint": fingerprint.value, "inputs": inputs})
    return run


def ended(run: Path, when: float) -> None:
    """Write when a run ended."""
    result = json.loads((run / "result.json").read_text())
    write(run / "result.json", {**result, "finished": when})


def shown(client: TestClient, address: str) -> tuple[str, str]:
    """The version that a model's page is of, and its text."""
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    version = re.search(r'class="dim version">([^<]*)<', answer.text)
    assert version is not None
    return version[1], " ".join(answer.text.split())


def test_a_model_in_a_shared_root_is_shown_with_where_it_lies(
    client: TestClient, root: Path, shared: Path
) -> None:
    make_run(shared, f"demo/stage1/{VERSION}")
    stage1 = {"stage1": recorded(f"demo/stage1/{VERSION}", str(shared))}
    make_run(root, f"demo/stage2_ingredient1/{OTHER}", inputs=stage1)
    table = client.get("/").text
    assert f'title="in the shared root {shared}">shared<' in " ".join(table.split())
    _, text = shown(client, f"/model/demo/stage1/{VERSION}")
    assert f"in the shared root {shared}" in text
    assert "training loss" in text
    _, text = shown(client, f"/model/demo/stage2_ingredient1/{OTHER}")
    assert "Reused" not in text
    assert f'href="/model/demo/stage1/{VERSION}"' in text
    assert f"in the shared root {shared}" in text  # of what it was made from
    both = [f"demo/stage1/{VERSION}", f"demo/stage2_ingredient1/{OTHER}"]
    assert "shared root" in client.get("/compare", params={"run": both}).text
    for address in ("/", f"/model/{both[0]}", f"/model/{both[1]}"):
        saved = client.get(f"{address}?save").text
        assert str(shared) not in saved  # a file that is passed on names no folder
        assert "shared" in saved


def test_a_version_in_two_roots_is_one_that_is_finished_then_ones_own(
    client: TestClient, root: Path, shared: Path
) -> None:
    make_run(root, f"demo/stage1/{VERSION}", finished=False)
    make_run(shared, f"demo/stage1/{VERSION}")
    for place in (root, shared):
        make_run(place, f"demo/stage1/{OTHER}")
    assert client.get("/").text.count('<input type="checkbox"') == 2
    assert f"in the shared root {shared}" in shown(client, f"/model/demo/stage1/{VERSION}")[1]
    assert "shared root" not in shown(client, f"/model/demo/stage1/{OTHER}")[1]


def test_a_shared_root_that_is_gone_is_a_page(
    client: TestClient, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.rmdir()
    answer = client.get("/")
    assert answer.status_code == 422
    assert "OLMO_SHARED_ROOTS" in answer.text


@pytest.mark.parametrize("place", ["own", "shared"])
def test_a_recipe_that_reuses_a_run_shows_it(
    client: TestClient, root: Path, shared: Path, copy: str, place: str
) -> None:
    """Without a version, as Dagster's link has none; the run lies in the other recipe's folder."""
    run = make_current(root if place == "own" else shared)
    version, text = shown(client, f"/model/{copy}/stage1")
    assert version == run.name
    assert "Reused: a result of demo" in text
    assert (str(shared) in text) == (place == "shared")
    assert client.get(f"/model/{copy}/soup").status_code == 404
    # What names the run elsewhere leads to the folder that it lies in.
    assert f'href="/model/demo/stage1/{run.name}"' in client.get(f"/plan/{copy}").text


def test_without_a_version_it_is_the_run_of_the_recipe_as_it_stands(
    client: TestClient, root: Path
) -> None:
    current = make_current(root)
    later = make_run(root, f"demo/stage1/{OTHER}")
    ended(later, 2e9)
    version, text = shown(client, "/model/demo/stage1")
    assert version == current.name
    assert "The address names no version: this is the run of the recipe as it stands" in text
    assert "names no version" not in shown(client, f"/model/demo/stage1/{OTHER}")[1]


def test_else_it_is_the_newest_finished_one_and_else_the_latest(
    client: TestClient, root: Path, shared: Path
) -> None:
    make_run(root, f"demo/stage1/{1:012x}", finished=False)
    version, text = shown(client, "/model/demo/stage1")
    assert version == f"{1:012x}"
    assert "this is the latest run, none has finished; the recipe as it stands has no" in text
    ended(make_run(shared, f"demo/stage1/{2:012x}"), 3e9)
    assert shown(client, "/model/demo/stage1")[0] == f"{2:012x}"
    for number in (3, 4):  # finished ones of the own root come before shared ones
        ended(make_run(root, f"demo/stage1/{number:012x}"), 1e9 + number)
    version, text = shown(client, "/model/demo/stage1")
    assert version == f"{4:012x}"
    assert "this is the newest finished run; the recipe as it stands has no finished one" in text


def test_of_a_recipe_that_is_gone_or_broken_it_is_the_newest_finished_one(
    client: TestClient, root: Path, copy: str
) -> None:
    make_run(root, f"gone/stage1/{VERSION}")
    assert "newest finished run; its recipe is not here" in shown(client, "/model/gone/stage1")[1]
    make_run(root, f"{copy}/stage1/{VERSION}")
    (root.parent / "recipes" / copy / "recipe.yaml").write_text("extends: [")
    version, text = shown(client, f"/model/{copy}/stage1")
    assert version == VERSION
    assert "newest finished run; which is the recipe&#39;s as it stands is not known" in text
    saved = client.get(f"/model/{copy}/stage1?save").text
    assert "is not known" not in saved  # it names files
