"""`olmo cost`: what a run would take; and a budget that stops one before anything is submitted."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from assets.assemble import build_graph
from assets.launcher import JobState, Launch, Refused
from assets.paths import CHECKOUT
from assets.recipe import limits_of, load_recipe
from olmo_core.errors import ConfigError
from olmo_core.forecast.figures import FIGURES, Figure, Forecast
from olmo_core.run.folder import RunFolder
from pipelines.cli import cost as cost_module
from pipelines.cli.cost import places_with, print_cost, require_affordable
from pipelines.cli.launch import launch_asset
from pipelines.cli.run import run_recipe
from pipelines.forecast import Plan, elapsed, training_configs
from pipelines.launchers.forecast import require_within_budget
from pipelines.launchers.router import Router
from pipelines.site.file import ResourceSpec, Site, SlurmSite

RECIPES = CHECKOUT / "tests" / "recipes"


@pytest.fixture(autouse=True)
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `tiny` and a variant of it, in an empty root."""
    folder = tmp_path / "recipes"
    shutil.copytree(RECIPES, folder)
    (folder / "limited").mkdir()
    (folder / "limited" / "recipe.yaml").write_text("extends: tiny\n")
    monkeypatch.setenv("OLMO_RECIPES", str(folder))
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "runs"))
    monkeypatch.setenv("OLMO_SITE", os.devnull)
    return folder


def site(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "site.yaml").write_text(text)
    monkeypatch.setenv("OLMO_SITE", str(folder / "site.yaml"))


def cost(capsys: pytest.CaptureFixture[str], recipe: str, **options: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {"force": False, "device": None, "devices": None, **options}
    select = chosen.pop("select", [])
    print_cost(recipe, select, as_json=True, **chosen)
    return json.loads(capsys.readouterr().out)


def test_every_figure_of_every_asset_has_a_basis_or_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = cost(capsys, "tiny")
    assert [each["asset"] for each in found["assets"]] == [*build_graph(load_recipe("tiny")).nodes]
    for each in found["assets"]:
        assert all(figure["basis"] for figure in each["figures"].values()), each["asset"]
        named = {*each["figures"], *each["unknown"]}
        assert named >= {*FIGURES} - {"tokens", "flops"}, each["asset"]
    configs = training_configs(build_graph(load_recipe("tiny"))).values()
    tokens = sum((each.stop_at or 0) * each.tokens_per_step for each in configs)
    assert found["total"]["tokens"] == {"value": tokens, "without": []}
    assert found["total"]["elapsed_seconds"] > 0


def test_a_selection_costs_what_it_is_made_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert [each["asset"] for each in cost(capsys, "tiny", select=["held_out"])["assets"]] == [
        "raw",
        "near_duplicates",
        "held_out",
    ]


def test_another_gpu_trains_and_scores_and_does_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = cost(capsys, "tiny", device="H100", devices=8)
    bases = {each["asset"]: each["figures"]["device_hours"]["basis"] for each in found["assets"]}
    assert bases["stage1"] == "8 H100 × the time"
    assert bases["downstream"] == "1 H100 × the time"
    assert bases["export"] == bases["tagged"] == "1 process × the time"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "H10"}, "--device H10: nothing is known of it"),
        ({"devices": 8}, "--devices without --device"),
        ({"device": "H100", "devices": 3}, "does not divide by 3 devices"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    capsys: pytest.CaptureFixture[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cost(capsys, "tiny", **options)


def test_a_recipe_whose_sources_are_elsewhere_is_forecast_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_SOURCES", raising=False)
    found = cost(capsys, "olmo2_1b", select=["stage1"], device="H100", devices=64)
    assert any("taken to be made anew" in note for note in found["notes"])
    assert any("assumed: the tokens of stage 1" in note for note in found["notes"])


def test_the_table_says_what_the_figures_rest_on(capsys: pytest.CaptureFixture[str]) -> None:
    code = print_cost("tiny", ["tagged"], force=False, device=None, devices=None, as_json=False)
    printed = capsys.readouterr().out
    assert code == 0
    assert "docs/corpus.md: 1 MB of text per CPU-second" in printed
    assert "no price is stated (prices.per_node_hour of the site file)" in printed


def test_a_budget_stops_a_run_before_anything_is_submitted(
    recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipes / "limited" / "budget.yaml").write_text("device_hours: 1e-6\n")
    with pytest.raises(
        Refused, match=r"limited: budget.yaml: device_hours: 1e-06, but this launch"
    ):
        run_recipe("limited", [], force=False)
    assert not [*(tmp_path / "runs").glob("limited/*/*/launch.json")]
    with pytest.raises(Refused, match=r"budget.yaml: device_hours"):
        launch_asset("limited", "raw", None, dry_run=False, force=False)
    assert not [*(tmp_path / "runs").glob("limited/*/*/launch.json")]
    code = print_cost("limited", [], force=False, device=None, devices=None, as_json=False)
    assert code == 1
    assert "✗ budget.yaml: device_hours" in capsys.readouterr().out


def test_a_budget_in_money_needs_the_sites_prices(
    recipes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (recipes / "limited" / "budget.yaml").write_text("{money: 1000, currency: USD}\n")
    found = cost(capsys, "limited")
    assert "prices are not stated" in found["budget"]["exceeded"][0]
    site(tmp_path, "prices: {currency: USD, per_node_hour: 2}\n", monkeypatch)
    found = cost(capsys, "limited")
    assert found["budget"] == {"exceeded": [], "not_known": []}
    assert found["currency"] == "USD"
    money, hours = found["total"]["money"]["value"], found["total"]["device_hours"]["value"]
    assert money == pytest.approx(2 * hours)


def test_jobs_at_work_have_taken_what_they_were_forecast_to(recipes: Path, tmp_path: Path) -> None:
    (recipes / "limited" / "budget.yaml").write_text("device_hours: 10\n")
    folder = tmp_path / "runs" / "limited" / "stage1" / "a"
    folder.mkdir(parents=True)
    forecast = {"figures": {"device_hours": {"value": 8.0, "basis": ""}}}
    (folder / "launch.json").write_text(json.dumps({"schema_version": 1, "forecast": forecast}))
    job = Forecast(asset="soup", figures={"device_hours": Figure(value=3.0, basis="")}, unknown={})
    require_within_budget("limited", [job], Site(), lambda run: False)
    with pytest.raises(Refused, match=r"forecast to take 3 .* beside 8 before"):
        require_within_budget("limited", [job], Site(), lambda run: run.path == folder)


def planned_jobs(monkeypatch: pytest.MonkeyPatch, *jobs: Forecast) -> None:
    """Let a run of any selection be of these jobs."""
    forecasts = {each.asset: each for each in jobs}

    def planned(*_: object, **__: object) -> Plan:
        return Plan(forecasts=forecasts, places={}, elapsed_seconds=None, notes=())

    monkeypatch.setattr(cost_module, "planned", planned)


def hours(asset: str, value: float | None) -> Forecast:
    if value is None:
        return Forecast(asset=asset, figures={}, unknown={"device_hours": "[bold]nothing like it"})
    figures = {"device_hours": Figure(value=value, basis="")}
    return Forecast(asset=asset, figures=figures, unknown={})


def test_a_job_of_which_nothing_is_known_stops_a_run_before_it_begins(
    recipes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipes / "limited" / "budget.yaml").write_text("device_hours: 10\n")
    graph = build_graph(load_recipe("limited"))
    planned_jobs(monkeypatch, hours("stage1", 1.0), hours("soup", 1.0))
    require_affordable(graph, [], force=False)
    planned_jobs(monkeypatch, hours("stage1", 1.0), hours("soup", None))
    with pytest.raises(Refused, match=r"device_hours: without soup, of which it is not known: \[b"):
        require_affordable(graph, [], force=False)
    code = print_cost("limited", [], force=False, device=None, devices=None, as_json=False)
    assert code == 1
    assert "✗ budget.yaml: device_hours: without soup" in (said := capsys.readouterr().out)
    assert "[bold]nothing like it" in said


def test_a_run_counts_jobs_at_work_that_are_not_its_own(
    recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipes / "limited" / "budget.yaml").write_text("device_hours: 10\n")
    graph = build_graph(load_recipe("limited"))
    planned_jobs(monkeypatch, hours("stage1", 8.0))
    monkeypatch.setattr(Router, "state", lambda *_: JobState(alive=True))
    record = {"schema_version": 1, "forecast": {"figures": {"device_hours": {"value": 8.0}}}}
    own = tmp_path / "runs" / "limited" / "stage1" / graph.fingerprints["stage1"].version
    own.mkdir(parents=True)
    (own / "launch.json").write_text(json.dumps(record))
    require_affordable(graph, [], force=False)  # it follows the job, which is counted once
    other = own.with_name("a" * 12)
    other.mkdir()
    (other / "launch.json").write_text(json.dumps(record))
    with pytest.raises(Refused, match=r"forecast to take 8 .* beside 8 before"):
        require_affordable(graph, [], force=False)


def test_a_budget_is_no_part_of_identity(recipes: Path) -> None:
    before = build_graph(load_recipe("limited")).fingerprints["stage1"].value
    (recipes / "limited" / "budget.yaml").write_text("disk_gb: 5\n")
    assert build_graph(load_recipe("limited")).fingerprints["stage1"].value == before


def test_a_variants_budget_is_its_bases_and_its_own(recipes: Path) -> None:
    (recipes / "tiny" / "budget.yaml").write_text("{disk_gb: 5, device_hours: 2}\n")
    (recipes / "limited" / "budget.yaml").write_text("disk_gb: 7\n")
    limits = limits_of("limited")
    assert limits is not None
    assert limits.limits == {"device_hours": 2, "disk_gb": 7}
    assert limits_of("nobody") is None


def test_a_malformed_budget_is_refused_by_file_and_key(recipes: Path) -> None:
    (recipes / "limited" / "budget.yaml").write_text("device_hour: 5\n")
    with pytest.raises(ConfigError, match=r"budget.yaml:1: .*device_hour.*device_hours"):
        limits_of("limited")


def test_jobs_of_a_queue_run_side_by_side(recipes: Path) -> None:
    graph = build_graph(load_recipe("tiny"))
    names = ["stage1", "stage2_ingredient1", "stage2_ingredient2", "soup"]
    jobs = {
        name: Forecast(asset=name, figures={"seconds": Figure(value=10.0, basis="")}, unknown={})
        for name in names
    }
    assert elapsed(graph, jobs, queued=[]) == 40.0
    assert elapsed(graph, jobs, queued=names) == 30.0
    assert elapsed(graph, jobs, queued=["stage1", "stage2_ingredient1"]) == 30.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prices: {currency: euro}", "three capital letters"),
        ("prices: {currency: EUR, per_device_hour: -1}", "per_device_hour"),
        ("work: {train: {device: H100}}", "devices_per_node is 0"),
        ("work: {train: {device: H101, devices_per_node: 8}}", "of which nothing is known"),
    ],
)
def test_a_site_file_says_prices_and_devices_that_are_known(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    message: str,
) -> None:
    site(tmp_path, text + "\n", monkeypatch)
    with pytest.raises(ConfigError, match=message):
        cost(capsys, "tiny")


@pytest.mark.parametrize(("devices", "nodes"), [(8, 1), (20, 3), (None, 16)])
def test_devices_that_are_asked_for_need_their_own_number_of_nodes(
    devices: int | None, nodes: int, tmp_path: Path
) -> None:
    shape = ResourceSpec(engine="slurm", nodes=16, processes_per_node=8, devices_per_node=8)
    at = Site(slurm=SlurmSite(), work={"train": shape})
    launch = Launch(
        folder=RunFolder(tmp_path),
        module="olmo_core.train",
        stage="train",
        config={},
        identity={"recipe": "demo", "asset": "stage1"},
        distributed=True,
    )
    place = places_with(at, "H100", devices)(launch)
    assert (place.nodes, place.devices) == (nodes, devices or 128)
