"""What a job takes that is no training run."""

from pathlib import Path
from typing import Any

import pytest

from olmo_core.forecast.figures import Forecast, Place, PlaceEnergyConfig, PricesConfig, Seen
from olmo_core.forecast.job import forecast_job
from olmo_core.forecast.loads import Work
from tests.olmo_core.forecast.conftest import write_result

TAGGED = "olmo_core.corpus.filters.tagged"
HELD_OUT = "olmo_core.corpus.duplicates.held_out"


def tagged(size: float, **config: Any) -> Work:
    inputs = {"held_out": {"remaining_bytes": size}}
    return Work(asset="tagged", module=TAGGED, config=config, inputs=inputs)


def write_tagged(root: Path, name: str, size: float, seconds: float, **others: Any) -> None:
    held_out = f"{name.partition('/')[0]}/held_out/{Path(name).name}"
    numbers = {"remaining_bytes": size}
    write_result(root, held_out, module=HELD_OUT, config={}, numbers=numbers, work_seconds=1.0)
    write_result(
        root,
        name,
        module=TAGGED,
        config=others.pop("config", {}),
        numbers={},
        work_seconds=seconds,
        inputs={held_out: ""},
        **others,
    )


def test_a_pass_takes_as_long_as_a_like_one_by_its_text_and_cores(root: Path) -> None:
    write_tagged(root, "demo/tagged/a", 10e6, 20.0, threads=2, memory_bytes=10**8)
    made = forecast_job(tagged(30e6), Place(cores=4), [root])
    assert made.value("seconds") == pytest.approx(1.0 + 20 * 3 / 2)
    assert made.value("memory_bytes") == pytest.approx(2 * 10**8)
    basis = made.figures["seconds"].basis
    assert basis == "measured: 21.0 s for 10 MB of text, × 3, / 2 for the cores (demo/tagged/a)"


def test_equal_runs_are_forecast_by_their_median_and_the_range_is_said(root: Path) -> None:
    """Of 10 MB each took 1 s to start and 20, 30 and 24 s; of 30 MB thrice that, but the start."""
    for name, seconds in (("a", 20.0), ("b", 30.0), ("c", 24.0)):
        write_tagged(root, f"demo/tagged/{name}", 10e6, seconds)
    made = forecast_job(tagged(30e6), Place(cores=2), [root]).figures["seconds"]
    assert made.value == pytest.approx(1 + 72)
    assert made.seen == Seen(least=1 + 60, most=1 + 90, runs=3)
    said = "measured: 25.0 s (21.0 to 31.0 s in 3 runs) for 10 MB of text, × 3 (demo/tagged/"
    assert made.basis.startswith(said)
    one = forecast_job(tagged(30e6), Place(cores=2), [root / "elsewhere"]).figures["seconds"]
    assert one.seen is None


def test_workers_on_further_nodes_share_it_and_memory_is_a_nodes(root: Path) -> None:
    write_tagged(root, "demo/tagged/a", 10e6, 20.0, memory_bytes=10**8)
    made = forecast_job(tagged(10e6), Place(cores=2, nodes=4, devices=1), [root])
    assert made.value("seconds") == pytest.approx(1.0 + 20 / 4)
    assert made.value("memory_bytes") == pytest.approx(10**8)


def test_the_nearest_in_size_and_configuration_counts(root: Path) -> None:
    write_tagged(root, "demo/tagged/far", 1e3, 5.0)
    write_tagged(root, "demo/tagged/near", 10e6, 20.0)
    write_tagged(root, "demo/tagged/other", 10e6, 90.0, config={"taggers": "slow"})
    made = forecast_job(tagged(10e6, taggers="quick"), Place(cores=2), [root])
    assert made.value("seconds") == pytest.approx(21.0)
    made = forecast_job(tagged(10e6, taggers="slow"), Place(cores=2), [root])
    assert "differs" not in made.figures["seconds"].basis


def test_a_run_whose_input_is_gone_is_not_compared(root: Path) -> None:
    write_tagged(root, "demo/tagged/a", 10e6, 20.0)
    (root / "demo/held_out/a/result.json").unlink()
    made = forecast_job(tagged(10e6), Place(cores=2), [root])
    assert made.figures["seconds"].basis.startswith("docs/corpus.md")


def test_without_a_like_run_a_pass_goes_by_the_documented_rate(root: Path) -> None:
    made = forecast_job(tagged(12e12), Place(cores=128, nodes=100), [root])
    # docs/corpus.md, "Three trillion tokens, on paper": 15.8 minutes
    assert (made.value("seconds") or 0) / 60 == pytest.approx(15.8, rel=0.02)
    assert "docs/corpus.md: 1 MB of text per CPU-second" in made.figures["seconds"].basis


def test_a_load_that_nobody_knows_is_no_figure(root: Path) -> None:
    work = Work(asset="tagged", module=TAGGED, config={}, inputs={})
    made = forecast_job(work, Place(cores=2), [root])
    assert not made.figures
    assert "not known" in made.unknown["seconds"]
    assert set(made.unknown) >= {"device_hours", "disk_bytes", "memory_bytes"}


def test_sizes_are_handed_on_in_proportion(root: Path) -> None:
    raw = f"demo/raw/{'a'}"
    write_result(
        root,
        raw,
        module="olmo_core.corpus.intake.raw",
        config={},
        numbers={"text_bytes": 100},
        work_seconds=1.0,
    )
    write_result(
        root,
        "demo/held_out/a",
        module=HELD_OUT,
        config={},
        work_seconds=1.0,
        inputs={raw: ""},
        numbers={"remaining_bytes": 90, "scored_bytes": 10},
    )
    work = Work(asset="held_out", module=HELD_OUT, config={}, inputs={"raw": {"text_bytes": 200.0}})
    made = forecast_job(work, Place(cores=2), [root])
    assert made.numbers == {"remaining_bytes": 180.0, "scored_bytes": 20.0}


def test_models_of_others_are_scored_too(root: Path) -> None:
    def scored(**inputs: Any) -> Forecast:
        export = {"parameters": 1e9, "models": 2}
        config = {"tasks": [{"name": "olmo1_copa", "limit": 10}]}
        module = "olmo_core.evals.downstream"
        work = Work(
            asset="downstream", module=module, config=config, inputs={"export": export, **inputs}
        )
        return forecast_job(work, Place(cores=2), [root])

    flops = 2 * 10 * 1000
    assert scored().value("flops") == pytest.approx(flops * 2e9)
    assert scored(models={"bytes": 14e9}).value("flops") == pytest.approx(flops * 9e9)
    assert "not known" in scored(models={}).unknown["seconds"]


def test_raw_goes_by_what_its_sources_say(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x" * 3000)
    (tmp_path / "text" / "b.jsonl.gz").write_bytes(b"x" * 1000)
    sources = [
        {"name": "limited", "max_bytes": 5000},
        {"name": "files", "root": str(tmp_path / "text")},
    ]
    work = Work(
        asset="raw", module="olmo_core.corpus.intake.raw", config={"sources": sources}, inputs={}
    )
    made = forecast_job(work, Place(cores=1), [tmp_path / "runs"])
    assert made.value("text_bytes") == 5000 + 3000 + 4 * 1000
    assert made.numbers == {"text_bytes": 12000.0}


def test_money_energy_and_co2_follow_from_what_the_site_states(root: Path) -> None:
    write_tagged(root, "demo/tagged/a", 10e6, 3599.0)
    place = Place(
        cores=2,
        energy=PlaceEnergyConfig(
            watts_per_device=9000, watts_per_node=500, pue=1.2, carbon_intensity_kg_per_kwh=0.5
        ),
        prices=PricesConfig(currency="EUR", per_node_hour=3.0),
    )
    made = forecast_job(tagged(10e6), place, [root])
    assert made.value("device_hours") == pytest.approx(1.0)
    assert made.value("money") == pytest.approx(3.0)
    assert made.value("device_kwh") == pytest.approx(0.5)
    assert made.value("site_kwh") == pytest.approx(0.6)
    assert made.value("co2_kg") == pytest.approx(0.3)
    assert not made.unknown


def test_what_the_site_does_not_state_is_named(root: Path) -> None:
    write_tagged(root, "demo/tagged/a", 10e6, 10.0)
    made = forecast_job(tagged(10e6), Place(cores=2), [root])
    assert "prices.per_node_hour" in made.unknown["money"]
    assert "watts_per_node" in made.unknown["device_kwh"]


def test_a_currency_has_three_letters() -> None:
    with pytest.raises(ValueError, match="three capital letters"):
        PricesConfig(currency="dollars")


def test_an_evaluation_of_tasks_that_are_no_more_is_no_measure(root: Path) -> None:
    module, models = "olmo_core.evals.downstream", {"stage1": {"parameters": 1e6}}
    numbers = {"parameters": 1e6}
    stage1 = "demo/stage1/a"
    write_result(root, stage1, module="m", config={}, numbers=numbers, work_seconds=1.0)
    for version, task in (("a", "olmo1_copa"), ("b", "task_of_yesterday")):
        write_result(
            root,
            f"demo/downstream/{version}",
            module=module,
            config={"tasks": [{"name": task, "limit": 10}]},
            numbers={},
            work_seconds=10.0 if version == "a" else 99.0,
            inputs={stage1: ""},
        )
    config = {"tasks": [{"name": "olmo1_copa", "limit": 10}]}
    work = Work(asset="downstream", module=module, config=config, inputs=models)
    assert forecast_job(work, Place(cores=2), [root]).value("seconds") == pytest.approx(11.0)


def test_a_run_that_read_its_scores_from_the_cache_is_no_measure(root: Path) -> None:
    module = "olmo_core.evals.perplexity.perplexity"
    numbers = {"export": {"parameters": 10.0, "models": 2.0}, "held_out": {"scored_bytes": 100.0}}
    for name, entries in numbers.items():
        write_result(
            root,
            f"demo/{name}/a",
            module=HELD_OUT,
            config={},
            work_seconds=1.0,
            numbers=entries,
        )
    for version, seconds, cached in (("a", 9.0, 0), ("b", 0.5, 16), ("c", 0.6, 16)):
        write_result(
            root,
            f"demo/perplexity/{version}",
            module=module,
            config={},
            work_seconds=seconds,
            numbers={"scores_from_cache": cached},
            inputs={"demo/export/a": "", "demo/held_out/a": ""},
        )
    work = Work(asset="perplexity", module=module, config={}, inputs=numbers)
    made = forecast_job(work, Place(cores=2), [root])
    assert made.value("seconds") == pytest.approx(1.0 + 9.0)
    assert "demo/perplexity/a" in made.figures["seconds"].basis
