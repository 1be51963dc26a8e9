"""Device-hours, energy and CO2 of a run, recomputed by hand from what its folder holds."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.energy import EnergyConfig, Use, run_uses, total
from olmo_core.files import write_json
from olmo_core.release.card_energy import co2_eq_emissions, energy
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder

STATED = {"pue": 1.25, "carbon_intensity_kg_per_kwh": 0.4, "location": "Somewhere"}
PLACE = {"devices": 8, "watts_per_device": None, **STATED}


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def began(attempt: int, time: float, place: dict[str, Any] | None) -> dict[str, Any]:
    return {"attempt": attempt, "event": "began", "time": time, "place": place}


def ended(attempt: int, time: float, cause: str) -> dict[str, Any]:
    return {"attempt": attempt, "event": "ended", "time": time, "cause": cause}


def step(attempt: int, number: int, time: float, kwh: float | None = None) -> dict[str, Any]:
    row = {"step": number, "attempt": attempt, "time": time}
    return row if kwh is None else {**row, "energy/total_kWh": kwh}


def run(
    folder: Path,
    events: list[dict[str, Any]],
    metrics: list[dict[str, Any]],
    *,
    source: str | None = None,
    last: int = 1,
    started: float = 0.0,
    finished: float = 0.0,
) -> RunFolder:
    lines(folder / "attempts.jsonl", events)
    lines(folder / "metrics.jsonl", metrics)
    result = {"schema_version": 1, "attempt": last, "started": started, "finished": finished}
    report = {"numbers": {"ranks": 2}, "data": {"energy_source": source}}
    write_json(folder / "result.json", {**result, "report": report})
    return RunFolder(folder)


def retried(folder: Path, **of: Any) -> RunFolder:
    """An hour that ended in a kill, half an hour that ended by wish, and an hour to the end.

    The first reached step 3, and step 2 was its last checkpoint.
    """
    place = of.pop("place", PLACE)
    measured = of.get("source") is not None
    kwh = iter((1.0, 2.0, 3.0, 3.5, 4.5))
    steps = [(1, 1, 1800.0), (1, 2, 2700.0), (1, 3, 3500.0), (2, 3, 6000.0), (3, 4, 10_000.0)]
    return run(
        folder,
        [
            *(began(1, 0.0, place), ended(1, 3600.0, "killed")),
            *(began(2, 5000.0, place), ended(2, 6800.0, "preempted")),
            *(began(3, 9000.0, place), ended(3, 12_700.0, "finished")),
        ],
        [step(*each, kwh=next(kwh) if measured else None) for each in steps],
        last=3,
        started=9100.0,
        finished=12_600.0,
        **of,
    )


def test_measured_energy_is_that_of_all_attempts_and_what_a_kill_lost(tmp_path: Path) -> None:
    uses = run_uses(retried(tmp_path, source="nvml"))
    assert [use.seconds for use in uses] == [3600.0, 1800.0, 3600.0]
    assert [use.failed for use in uses] == [True, False, False]
    assert [use.device_hours for use in uses] == [8.0, 4.0, 8.0]
    # 3.0 of the first; the second went on from step 2, at 2.0, and the third from 3.5.
    assert [use.device_kwh for use in uses] == [3.0, 1.5, 1.0]
    assert {use.basis for use in uses} == {"measured (nvml)"}
    assert total(use.site_kwh for use in uses) == pytest.approx(5.5 * 1.25)
    assert total(use.co2_kg for use in uses) == pytest.approx(5.5 * 1.25 * 0.4)


def test_assumed_energy_is_power_by_the_time_that_devices_were_held(tmp_path: Path) -> None:
    uses = run_uses(retried(tmp_path, place={**PLACE, "watts_per_device": 500.0}))
    assert [use.device_kwh for use in uses] == [4.0, 2.0, 4.0]
    assert {use.basis for use in uses} == {"assumed, 500 W per device"}
    assert total(use.co2_kg for use in uses if use.failed) == pytest.approx(4.0 * 1.25 * 0.4)


def test_the_power_of_the_run_s_own_configuration_comes_first(tmp_path: Path) -> None:
    folder = retried(tmp_path, place={**PLACE, "watts_per_device": 500.0})
    folder.config.write_text(yaml.safe_dump({"core": {"power_watts": 250}}))
    assert run_uses(folder)[0].basis == "assumed, 250 W per device"
    folder.config.write_text(yaml.safe_dump({"core": None}))
    assert run_uses(folder)[0].basis == "assumed, 500 W per device"


def test_where_nothing_is_stated_no_figure_is_made_up(tmp_path: Path) -> None:
    uses = run_uses(retried(tmp_path, place=None))
    assert [use.devices for use in uses] == [2, 2, 2]  # the ranks
    assert {(use.device_kwh, use.site_kwh, use.co2_kg, use.basis) for use in uses} == {
        (None, None, None, "")
    }
    assert total(use.device_kwh for use in uses) is None


def test_an_attempt_lost_with_its_node_ends_at_its_last_row(tmp_path: Path) -> None:
    events = [began(1, 0.0, PLACE), ended(1, 90_000.0, "node_lost"), began(2, 90_000.0, PLACE)]
    rows = [step(1, 1, 300.0), step(2, 2, 90_100.0)]
    uses = run_uses(run(tmp_path, events, rows, last=2, finished=90_200.0))
    assert [(use.seconds, use.failed) for use in uses] == [(300.0, True), (200.0, False)]


def test_a_run_by_hand_has_one_attempt(tmp_path: Path) -> None:
    [use] = run_uses(run(tmp_path, [], [], started=100.0, finished=460.0))
    assert (use.seconds, use.devices, use.device_hours) == (360.0, 2, 0.2)


def test_a_forecast_is_power_by_time() -> None:
    stated = EnergyConfig(watts_per_device=700, pue=1.1, carbon_intensity_kg_per_kwh=0.3)
    forecast = Use(seconds=86_400, devices=64, stated=stated)
    assert forecast.device_hours == 1536
    assert forecast.device_kwh == pytest.approx(1075.2)
    assert forecast.co2_kg == pytest.approx(1075.2 * 1.1 * 0.3)


def cells(text: str) -> dict[str, dict[str, str]]:
    """The rows of the table, by their first cell."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.split("\n")]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def test_the_card_has_every_run_and_all_of_them(tmp_path: Path) -> None:
    stated = EnergyConfig(**STATED)
    one = [
        Use(seconds=3600, devices=8, stated=stated, measured_kwh=3.0, counter="nvml", failed=True),
        Use(seconds=7200, devices=8, stated=stated, measured_kwh=5.0, counter="nvml"),
    ]
    power = EnergyConfig(watts_per_device=500, **STATED)
    uses = {"stage1": one, "stage2_ingredient1": [Use(seconds=1800, devices=4, stated=power)]}
    table, said = energy(uses)
    assert "None" not in table
    rows = cells(table)
    assert rows["stage1"]["device-hours"] == "24.0"
    assert rows["stage1"]["of failed attempts"] == "8.0"
    assert rows["stage1"]["kWh of failed attempts"] == "3.0"
    assert rows["stage1"]["basis"] == "measured (nvml)"
    assert rows["stage2_ingredient1"]["basis"] == "assumed, 500 W per device"
    assert rows["in all"]["device kWh"] == "9.0"
    assert rows["in all"]["site kWh"] == "11.25"
    assert rows["in all"]["kg CO2"] == "4.5"
    assert rows["in all"]["basis"] == "measured (nvml); assumed, 500 W per device"
    assert "failed are among them" in said
    head = co2_eq_emissions(uses, training_type="pre-training", hardware="8 of them")
    assert head == {
        "emissions": 4500.0,
        "source": "device energy (measured (nvml); assumed, 500 W per device) × PUE × carbon "
        "intensity, stated by the site",
        "training_type": "pre-training",
        "geographical_location": "Somewhere",
        "hardware_used": "8 of them",
    }


def test_a_part_is_never_shown_for_the_whole() -> None:
    known, unknown = EnergyConfig(**STATED), EnergyConfig()
    died = Use(seconds=36, devices=8, stated=known, failed=True)  # before its first step
    ran = Use(seconds=3600, devices=8, stated=known, measured_kwh=4.0, counter="nvml")
    table, *said = energy({"stage1": [died, ran]})
    assert cells(table)["stage1"]["basis"] == "measured (nvml); without 0.08 device-hours"
    assert any("a basis is missing" in text for text in said)
    assert co2_eq_emissions({"stage1": [died, ran]}, training_type="", hardware="") is None
    # One run's place says no PUE: no site kWh, no CO2 in all.
    other = Use(seconds=3600, devices=8, stated=unknown, measured_kwh=4.0, counter="nvml")
    table, *said = energy({"stage1": [ran], "stage2_ingredient1": [other]})
    rows = cells(table)
    assert rows["stage1"]["kg CO2"] == "2.0"
    assert (rows["in all"]["device kWh"], rows["in all"]["kg CO2"]) == ("8.0", "")
    assert any("CO2 is only said" in text for text in said)
    assert co2_eq_emissions({"a": [ran], "b": []}, training_type="", hardware="") is None


def test_an_attempt_takes_the_place_of_its_submission_with_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.launch, {"schema_version": 1, "place": PLACE})
    attempts.begin(folder, engine="local", job_id="1")
    write_json(folder.launch, {"schema_version": 1, "place": {**PLACE, "devices": 16}})
    attempts.begin(folder, engine="local", job_id="2")
    places = [attempts.began(folder)[number]["place"] for number in (1, 2)]
    assert [place["devices"] for place in places] == [8, 16]
