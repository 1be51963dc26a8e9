"""The whole graph of `tiny`, real tools throughout: what it made, and that it stays made."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from assets.evals.sweep import SWEEP
from assets.execution.replay_check import NAME as REPLAYED
from tests.integration.card import every_number_is_found
from tests.integration.conftest import RECIPES, World

KEYS = {
    *("asset", "partition", "path", "reused_from", "fingerprint", "created", "metadata"),
    *("commit", "uncommitted", "inputs", "seeds", "overrides"),
}
MODELS = ["stage1", "stage2_ingredient1", "stage2_ingredient2", "soup"]

USE_EXPORT = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "Olmo2ForCausalLM", type(model)
    text = pipeline("text-generation", model=folder)("The license", max_new_tokens=4)
    assert text[0]["generated_text"].startswith("The license"), text
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == model.config.eos_token_id
"""


def test_every_asset_is_there_and_current(tiny: World) -> None:
    shown = tiny.show()
    assert len(shown) == 20
    for name, entry in shown.items():
        assert set(entry) == KEYS
        assert entry["metadata"]["current"], name
        assert (Path(entry["path"]) / "result.json").is_file()


def test_the_second_run_touches_nothing(tiny: World) -> None:
    def stamps() -> dict[str, int]:
        files = (tiny.root / "tiny").rglob("*")
        return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}

    before = stamps()
    done = tiny.olmo("run", "tiny")
    assert done.returncode == 0
    assert "no run was started" in done.stdout
    assert stamps() == before


@pytest.mark.slow
def test_a_copy_with_another_learning_rate_has_the_same_corpus_at_once(
    tiny: World, tmp_path: Path
) -> None:
    copy = shutil.copytree(RECIPES / "tiny", tmp_path / "tiny_lr")
    stage1 = (copy / "stage1.yaml").read_text()
    changed = re.sub(r"learning_rate: \S+", "learning_rate: 7.0e-4", stage1)
    assert changed != stage1
    (copy / "stage1.yaml").write_text(changed)
    own = {
        "OLMO_RECIPES": f"{tmp_path}{os.pathsep}{RECIPES}",
        "DAGSTER_HOME": str(tmp_path / "dagster"),  # others count the runs of the recipe `tiny`
    }
    mixes = ("--select", "stage1_mix", "--select", "stage2_mix")
    for _ in range(2):
        done = tiny.olmo("run", "tiny_lr", *mixes, **own)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Reused from tiny: raw, " in done.stdout
        assert not list((tiny.root / "tiny_lr").rglob("*")), "no job was started"
    planned = json.loads(tiny.olmo("plan", "tiny_lr", "--json", **own).stdout)
    states = {entry["asset"]: entry for entry in planned}
    mix = states["stage1_mix"]
    assert (mix["state"], mix["reused_from"]) == ("up to date", "tiny")
    assert (states["stage1"]["state"], states["stage1"]["inputs"]) == ("missing", [])
    assert "(reused from tiny): raw, " in tiny.olmo("plan", "tiny_lr", **own).stdout


def test_dagster_knows_every_asset_and_all_checks_passed(tiny: World) -> None:
    from pipelines.definitions import build_definitions

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLMO_RECIPES", tiny.environment["OLMO_RECIPES"])
        graph = build_definitions(["tiny"]).resolve_asset_graph()
    with dg.DagsterInstance.from_config(str(tiny.root / "dagster")) as instance:
        [run] = instance.get_runs(dg.RunsFilter(job_name="tiny"))  # other tests run copies here
        assert run.status == dg.DagsterRunStatus.SUCCESS
        for name, entry in tiny.show().items():
            event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", name]))
            assert event is not None, name
            materialization = event.asset_materialization
            assert materialization is not None
            assert materialization.tags is not None
            assert materialization.tags["dagster/data_version"] == entry["fingerprint"]
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
        evaluations = [
            event.asset_check_evaluation_data
            for event in events
            if event is not None and event.event_type_value == "ASSET_CHECK_EVALUATION"
        ]
    # Forty steps teach a model little, and after ten more its ingredients hardly differ: the checks
    # of what the one has learned and of what averaging the others gained may fail, no other.
    failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    assert failed <= {"learned_more_than_frequencies", "soup_is_as_good_as_its_best"}
    made = {
        key
        for key in graph.asset_check_keys
        if key.asset_key.path[-1] not in SWEEP and key.name != REPLAYED  # that is asked for alone
    }
    assert {evaluation.asset_check_key for evaluation in evaluations} == made
    assert len(evaluations) == len(made)


def test_what_each_job_took_stands_beside_what_it_was_forecast_to_take(tiny: World) -> None:
    shown = tiny.show()
    with dg.DagsterInstance.from_config(str(tiny.root / "dagster")) as instance:
        for name, entry in shown.items():
            rows = {row["figure"]: row for row in entry["metadata"]["tables"]["forecast"]}
            assert rows["seconds"]["measured"] == pytest.approx(
                entry["metadata"]["start_seconds"] + entry["metadata"]["work_seconds"], abs=1.5
            ), name
            assert all(rows[figure]["basis"] for figure in ("seconds", "disk_bytes")), name
            event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", name]))
            assert event is not None
            assert event.asset_materialization is not None
            assert "forecast" in event.asset_materialization.metadata, name
    # By the time of the second training the first one was a finished run of the same model.
    second = shown["stage2_ingredient1"]["metadata"]["tables"]["forecast"]
    training = {row["figure"]: row for row in second}
    assert training["tokens"]["forecast / measured"] == 1
    for figure in ("disk_bytes", "memory_bytes"):
        assert 0.9 < training[figure]["forecast / measured"] < 1.1, figure


def test_a_finished_run_foretells_its_repetition(tiny: World) -> None:
    done = tiny.olmo("cost", "tiny", "--force", "--json")
    assert done.returncode == 0, done.stderr
    forecasts = {each["asset"]: each["figures"] for each in json.loads(done.stdout)["assets"]}
    shown = tiny.show()
    assert set(forecasts) == set(shown)
    for name, figures in forecasts.items():
        taken = {row["figure"]: row for row in shown[name]["metadata"]["tables"]["forecast"]}
        assert figures["seconds"]["basis"].startswith("measured"), name
        for figure in ("disk_bytes", "memory_bytes"):
            measured = taken[figure]["measured"]
            assert figures[figure]["value"] == pytest.approx(measured, rel=0.1), (name, figure)
        # Other recipes of other tests may have made the same in this root: of all the median.
        measured = taken["seconds"]["measured"]
        assert 0.5 < figures["seconds"]["value"] / measured < 2, name


def test_the_ingredients_share_a_parent_and_differ_in_their_batches(tiny: World) -> None:
    stage1 = tiny.result("stage1")["report"]["data"]
    ingredients = [tiny.result(name)["report"]["data"] for name in MODELS[1:3]]
    assert {entry["parent"]["model_sha256"] for entry in ingredients} == {stage1["model_sha256"]}
    assert len({entry["first_batch_sha256"] for entry in ingredients}) == 2
    assert len({entry["model_sha256"] for entry in ingredients}) == 2


def test_stage2_reads_its_own_sources_only(tiny: World) -> None:
    manifest = json.loads((tiny.path("stage2_mix") / "manifest.json").read_text())
    sources = {stream["name"] for stream in manifest["streams"]}
    ranges = [entry for stream in manifest["streams"] for entry in stream["ranges"]]
    paths = [Path(entry["path"]["path"]) for entry in ranges]
    assert {path.parts[1] for path in paths} == sources
    assert sources < set(tiny.result("stage1_mix")["report"]["data"]["sources"])


def test_the_soup_is_the_mean_of_its_ingredients(tiny: World) -> None:
    soup = load_file(tiny.path("soup") / "model" / "model.safetensors")
    parts = [load_file(tiny.path(name) / "model" / "model.safetensors") for name in MODELS[1:3]]
    for name, tensor in soup.items():
        mean = np.mean([part[name].astype(np.float64) for part in parts], axis=0)
        assert np.array_equal(tensor, mean.astype(tensor.dtype)), name


def test_every_export_loads_and_generates_offline(tiny: World) -> None:
    exports = tiny.path("export") / "exports"
    done = subprocess.run(
        [sys.executable, "-c", USE_EXPORT, *(str(exports / name) for name in MODELS)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_leaderboard_counts_all_tokens_behind_a_model(tiny: World) -> None:
    own = {name: tiny.result(name)["report"]["data"]["tokens"] for name in MODELS[:3]}
    first, *ingredients = own.values()
    counted = {
        row["model"]: row["tokens_in_all"] for row in tiny.leaderboard() if row["model"] in MODELS
    }
    expected = (first, *(first + tokens for tokens in ingredients), sum(own.values()))
    assert counted == dict(zip(MODELS, expected, strict=True))


def test_the_leaderboard_has_every_model_and_every_figure(tiny: World) -> None:
    rows = tiny.leaderboard()
    run = {"recipe", "run", "seed"}
    keys = {"model", "revision", "step", "tokens", "task", "metric", "value", "stderr"} | run
    asked = {"leaderboard", "published", "n", "task_sha256", "tokens_in_all"}
    assert all(set(row) == keys | asked for row in rows)
    # The store of results has what the asset has, no figure less, more or twice.
    joined = pq.read_table(tiny.path("leaderboard") / "rows.parquet", columns=sorted(keys))
    own = [{key: row[key] for key in keys} for row in rows if row["published"] is None]
    assert sorted(map(repr, map(sorted, map(dict.items, own)))) == sorted(
        map(repr, map(sorted, map(dict.items, joined.to_pylist())))
    )
    runs = {(row["model"], row["recipe"], row["run"]) for row in rows if row["model"] in MODELS}
    assert runs == {(name, "tiny", tiny.path(name).name) for name in MODELS}
    figures: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        figures.setdefault(row["model"], set()).add((row["task"], row["metric"]))
    assert set(MODELS) <= set(figures)
    assert len({frozenset(figures[name]) for name in MODELS}) == 1


def test_every_number_of_the_model_card_stands_in_a_run_folder(tiny: World) -> None:
    every_number_is_found(tiny)


def test_a_release_is_verified_and_shown_before_it_is_sent(tiny: World) -> None:
    done = tiny.olmo("release", "verify", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("parity: ") == len(MODELS)
    assert "README.md is what the runs say; its " in done.stdout
    done = tiny.olmo("release", "push", "tiny", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    revisions = (tiny.path("export") / "revisions.txt").read_text().split()
    words = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert [first for first, *_ in words if first in revisions] == revisions
    assert "Nothing was sent" in done.stdout


def test_an_evaluation_alone_is_made_again_when_its_limit_changes(
    tiny: World, tmp_path: Path
) -> None:
    import shutil

    recipe = Path(shutil.copytree(Path(tiny.environment["OLMO_RECIPES"]), tmp_path / "recipes"))
    evals = recipe / "tiny" / "evals.yaml"
    text = evals.read_text()
    evals.write_text(text.replace("limit: 8", "limit: 7", 1))
    assert evals.read_text() != text
    planned = json.loads(tiny.olmo("plan", "tiny", "--json", OLMO_RECIPES=str(recipe)).stdout)
    main_line = [entry for entry in planned if entry["partition"] is None]
    stale = {entry["asset"]: entry for entry in main_line if entry["state"] != "up to date"}
    assert [*stale] == ["downstream", "leaderboard", "model_card"]
    assert stale["downstream"]["why"] == ["config tasks[0].limit: 8 → 7"]
    assert stale["leaderboard"]["why"] == ["because of its input downstream"]


@pytest.mark.slow
def test_a_checkpoint_of_a_run_is_evaluated_as_the_models_are(
    tiny: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assets.assemble import build_graph
    from assets.evals.sweep import checkpoints
    from assets.recipe import load_recipe
    from pipelines.definitions import build_definitions

    monkeypatch.setenv("OLMO_ROOT", str(tiny.root))
    monkeypatch.setenv("OLMO_RECIPES", tiny.environment["OLMO_RECIPES"])
    found = checkpoints(build_graph(load_recipe("tiny")), tiny.root).whole
    key = [key for key in found if "stage1" in key][-1]
    with dg.DagsterInstance.from_config(str(tiny.root / "dagster")) as instance:
        # As the run that trained has left it: what a person can choose from in the UI.
        assert key in instance.get_dynamic_partitions("tiny_checkpoints")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("tiny_checkpoints", [key])
        job = build_definitions(["tiny"]).resolve_job_def("tiny_sweep")
        result = job.execute_in_process(instance=instance, partition_key=key)
    assert result.success
    folder = next((tiny.root / "tiny" / "checkpoint_perplexity" / key).iterdir())
    # The last checkpoint holds the weights that were exported, so the figures are the same.
    exported = held_out_figures(row for row in tiny.leaderboard() if row["model"] == "stage1")
    scored = held_out_figures(pq.read_table(folder / "rows.parquet").to_pylist())
    assert exported["loss"] > 0
    assert scored == pytest.approx(exported, rel=1e-10)


def held_out_figures(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in rows if row["task"] == "held_out"}
