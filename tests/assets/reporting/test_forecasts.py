"""A forecast beside what was measured, as a person reads it."""

import pytest

from assets.reporting.forecasts import TITLES, figure_text, readable
from olmo_core.forecast.figures import FIGURES


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("seconds", 4.136, "4.1 s"),
        ("seconds", 88.48, "88 s"),
        ("seconds", 7500.0, "2 h 05 min"),
        ("disk_bytes", 51_780_000.0, "51.8MB"),
        ("text_bytes", 13_310_000.0, "13.3MB"),
        ("flops", 3.862e12, "3.86e+12"),
        ("tokens", 800_768.0, "801k"),
        ("device_hours", 0.02458, "0.0246"),
        ("memory_bytes", None, ""),
    ],
)
def test_a_figure_has_its_unit(name: str, value: float | None, text: str) -> None:
    assert figure_text(name, value) == text


def test_every_figure_has_a_name() -> None:
    assert set(TITLES) == {"text_bytes", *FIGURES}


def test_a_row_has_both_their_ratio_and_the_basis() -> None:
    row = {"figure": "seconds", "forecast": 8.0, "measured": 4.0, "basis": "measured: 8.0 s"}
    unknown = {"figure": "money", "forecast": None, "measured": 2.5, "basis": "no price is stated"}
    assert readable([{**row, "forecast / measured": 2.0}]) == [
        {
            "figure": "time",
            "forecast": "8.0 s",
            "measured": "4.0 s",
            "ratio": 2.0,
            "basis": "measured: 8.0 s",
        }
    ]
    [shown] = readable([{**unknown, "forecast / measured": None}])
    assert (shown["forecast"], shown["measured"], shown["ratio"]) == ("", "2.5", None)
