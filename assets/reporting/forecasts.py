"""What a job was forecast to take beside what it took, as a person reads it. Free of Dagster."""

from collections.abc import Mapping, Sequence
from typing import Any

from assets.reporting.texts import amount, duration

# Figure -> what it is called in tables, in their order; money as its currency where that is known.
TITLES: Mapping[str, str] = {
    "text_bytes": "text",
    "tokens": "tokens",
    "flops": "FLOPs",
    "seconds": "time",
    "device_hours": "device-hours",
    "money": "money",
    "device_kwh": "kWh",
    "site_kwh": "site kWh",
    "co2_kg": "kg CO2",
    "disk_bytes": "disk",
    "memory_bytes": "memory",
}
SHORT_SECONDS = 10  # below it a tenth counts


def figure_text(name: str, value: float | None) -> str:
    """Return a figure in its unit: `4.1 s`, `51.8MB`, `3.86e+12`; empty where it is not known."""
    if value is None:
        return ""
    if name == "seconds":
        return f"{value:.1f} s" if value < SHORT_SECONDS else duration(value)
    if name.endswith("_bytes"):
        return f"{amount(value)}B"
    return f"{value:.3g}" if name == "flops" or value < 100 else amount(value)


def readable(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `olmo_core.forecast.measured.beside` with units, `ratio` as short."""
    return [
        {
            "figure": TITLES[row["figure"]],
            "forecast": figure_text(row["figure"], row["forecast"]),
            "measured": figure_text(row["figure"], row["measured"]),
            "ratio": row["forecast / measured"],
            "basis": row["basis"],
        }
        for row in rows
    ]
