"""What a budget lets pass."""

import pytest

from olmo_core.forecast.budget import BudgetConfig, excesses, unforeseen
from olmo_core.forecast.figures import Figure, Forecast


def job(asset: str, **figures: float) -> Forecast:
    return Forecast(
        asset=asset,
        figures={name: Figure(value=value, basis="") for name, value in figures.items()},
        unknown={} if figures else {"device_hours": "nobody knows"},
    )


def test_what_was_taken_before_counts_with_what_is_to_come() -> None:
    jobs = [job("stage1", device_hours=5.0), job("soup", device_hours=1.0)]
    budget = BudgetConfig(device_hours=10)
    assert excesses(budget, jobs, {"device_hours": 4.0}, currency=None) == []
    [line] = excesses(budget, jobs, {"device_hours": 4.5}, currency=None)
    assert line == (
        "device_hours: 10, but this launch is forecast to take 6 (stage1 5, soup 1), "
        "beside 4.5 before"
    )


def test_gigabytes_of_the_disk() -> None:
    [line] = excesses(BudgetConfig(disk_gb=1), [job("a", disk_bytes=2e9)], {}, currency=None)
    assert "disk_gb: 1, but" in line
    assert "take 2 (a 2)" in line


def test_money_of_another_currency_is_not_compared() -> None:
    budget, jobs = BudgetConfig(money=5, currency="USD"), [job("a", money=1.0)]
    assert excesses(budget, jobs, {}, currency="USD") == []
    [line] = excesses(budget, jobs, {}, currency="EUR")
    assert "prices are in EUR" in line
    [line] = excesses(budget, jobs, {}, currency=None)
    assert "not stated" in line


def test_a_limit_that_cannot_be_held_stops_a_launch() -> None:
    [line] = excesses(BudgetConfig(device_hours=5), [job("a")], {}, currency=None)
    assert line == "device_hours: 5, but it cannot be forecast: nobody knows"


def test_a_part_that_is_not_known_is_said() -> None:
    jobs = [job("stage1", device_hours=1.0), job("downstream")]
    budget = BudgetConfig(device_hours=5)
    assert excesses(budget, jobs, {}, currency=None) == []
    [line] = unforeseen(budget, jobs)
    assert line == "device_hours: without downstream, of which it is not known: nobody knows"


def test_money_needs_a_currency() -> None:
    with pytest.raises(ValueError, match="currency is missing"):
        BudgetConfig(money=5)
