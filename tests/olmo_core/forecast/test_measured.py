"""What a run took, beside what was forecast."""

import json
from pathlib import Path

import pytest

from olmo_core.forecast.measured import beside, measured, spent
from olmo_core.run.folder import RunFolder
from tests.olmo_core.forecast.conftest import write_result


def write(root: Path, name: str, *, price: float | None = None, currency: str = "USD") -> Path:
    folder = write_result(
        root,
        name,
        module="olmo_core.corpus.filters.tagged",
        config={},
        numbers={},
        work_seconds=3599.0,
    )
    if price is not None:
        launch = json.loads((folder / "launch.json").read_text())
        launch["place"] |= {"watts_per_device": 900, "watts_per_node": 50, "pue": 1.5}
        launch["forecast"] = {
            "figures": {"seconds": {"value": 1800.0, "basis": "measured: elsewhere"}},
            "unknown": {"money": "no price"},
            "place": {
                "nodes": 2,
                "gpus": False,
                "device": "",
                "prices": {"currency": currency, "per_device_hour": None, "per_node_hour": price},
            },
        }
        (folder / "launch.json").write_text(json.dumps(launch))
    return folder


def test_figures_of_a_job_without_a_supervisor(root: Path) -> None:
    found = measured(RunFolder(write(root, "demo/tagged/a", price=2.0)))
    assert found["seconds"] == pytest.approx(3600.0)
    assert found["device_hours"] == pytest.approx(1.0)
    assert found["money"] == pytest.approx(4.0)
    assert found["device_kwh"] == pytest.approx(0.1)
    assert found["site_kwh"] == pytest.approx(0.15)
    assert "co2_kg" not in found
    assert found["memory_bytes"] == 1e8
    assert found["disk_bytes"] > 1000


def test_forecast_beside_measured(root: Path) -> None:
    rows = {row["figure"]: row for row in beside(RunFolder(write(root, "demo/tagged/a", price=2)))}
    assert rows["seconds"] == {
        "figure": "seconds",
        "forecast": 1800.0,
        "measured": 3600.0,
        "forecast / measured": 0.5,
        "basis": "measured: elsewhere",
    }
    money = {"forecast": None, "measured": 4.0, "forecast / measured": None}
    assert rows["money"] == {"figure": "money", **money, "basis": "no price"}
    assert beside(RunFolder(write(root, "demo/tagged/b"))) == []


def test_all_versions_are_spent_and_money_of_one_currency(root: Path) -> None:
    write(root, "demo/tagged/a", price=2.0)
    write(root, "demo/tagged/b", price=2.0, currency="EUR")
    write(root, "other/tagged/c", price=2.0)
    found = spent(root / "demo", "USD")
    assert found["device_hours"] == pytest.approx(2.0)
    assert found["money"] == pytest.approx(4.0)
