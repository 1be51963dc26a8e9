"""What a finished run took, under the names of a forecast's figures, and the two side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from olmo_core.config.load import build
from olmo_core.energy import SECONDS_PER_HOUR, EnergyConfig, Use, run_uses, total
from olmo_core.forecast.figures import FIGURES, PricesConfig, price_of
from olmo_core.forecast.past import folder_bytes, peak_memory_bytes
from olmo_core.run.code import TRAINING
from olmo_core.run.folder import RunFolder


def measured(folder: RunFolder) -> dict[str, float]:
    """Return the figures of a finished run by name, all attempts together.

    Time and what follows from it are of the devices held (`olmo_core.energy`); disk is what the
    folder holds now, memory the peak of the last attempt. Money is by the prices that were stated
    when it was submitted. What nobody measured or stated is absent.
    """
    result = folder.read_result()
    uses, numbers = _uses(folder, result), result["report"]["numbers"]
    found: dict[str, float | None] = {
        "text_bytes": numbers.get("text_bytes") if result["asset"] == "raw" else None,
        "tokens": numbers["tokens"] if "steps" in numbers else None,
        "seconds": sum(use.seconds for use in uses),
        "device_hours": total(use.device_hours for use in uses),
        "money": _money(_place(folder), uses),
        "device_kwh": total(use.device_kwh for use in uses),
        "site_kwh": total(use.site_kwh for use in uses),
        "co2_kg": total(use.co2_kg for use in uses),
        "disk_bytes": folder_bytes(folder, result),
        "memory_bytes": peak_memory_bytes(folder, result),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def beside(folder: RunFolder) -> list[dict[str, Any]]:
    """Return a row per figure of what was forecast at the launch, beside what was measured.

    Of a run that was launched without a forecast it returns no row.
    """
    forecast = (folder.read(folder.launch) or {}).get("forecast")
    if not forecast:
        return []
    expected, taken = forecast["figures"], measured(folder)
    names = [name for name in ("text_bytes", *FIGURES) if name in expected or name in taken]
    return [
        {
            "figure": name,
            "forecast": _short(expected.get(name, {}).get("value")),
            "measured": _short(taken.get(name)),
            "forecast / measured": _ratio(expected.get(name, {}).get("value"), taken.get(name)),
            "basis": expected[name]["basis"] if name in expected else forecast["unknown"].get(name),
        }
        for name in names
    ]


def spent(recipe: Path, currency: str | None) -> dict[str, float]:
    """Return what all finished runs in a recipe's folder took together, whatever their version.

    Args:
        recipe: The folder.
        currency: Of the money that is counted.
    """
    sums: dict[str, float] = {}
    for depth in (
        "*/*",
        "*/*/*",
    ):  # <asset>/<version>, and of a sweep <asset>/<partition>/<version>
        for result in recipe.glob(f"{depth}/result.json"):
            if not (folder := RunFolder(result.parent)).finished:
                continue
            found, prices = measured(folder), _place(folder).get("prices") or {}
            if prices.get("currency") != currency:
                found.pop("money", None)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value
    return sums


def _uses(folder: RunFolder, result: Mapping[str, Any]) -> list[Use]:
    """Return the attempts; a job without a supervisor had one, from its submission to its end.

    A power that is stated of devices is that of GPUs and of training; of other jobs it is the
    nodes'.
    """
    launch = folder.read(folder.launch) or {}
    place = launch.get("place") or {}
    stated = {key: place[key] for key in EnergyConfig.__dataclass_fields__ if key in place}
    if folder.attempts.exists():
        uses = run_uses(folder)
    else:
        held = result["start_seconds"] + result["work_seconds"]
        known = build(EnergyConfig, stated, where="energy")
        uses = [Use(seconds=held, devices=int(place.get("devices", 1)), stated=known)]
    where = _place(folder)
    if where.get("gpus") or launch.get("parts", {}).get("module") == TRAINING:
        return uses
    of_node = place.get("watts_per_node")
    watts = None if of_node is None else of_node * where.get("nodes", 1) / uses[-1].devices
    return [replace(use, stated=replace(use.stated, watts_per_device=watts)) for use in uses]


def _place(folder: RunFolder) -> Mapping[str, Any]:
    """Return what launch.json says of the prices of the place; empty without a forecast."""
    return ((folder.read(folder.launch) or {}).get("forecast") or {}).get("place", {})


def _money(place: Mapping[str, Any], uses: Sequence[Use]) -> float | None:
    if not place.get("prices"):
        return None
    prices = build(PricesConfig, place["prices"], where="prices")
    price, held = price_of(
        prices, gpus=place["gpus"], devices=uses[-1].devices, nodes=place["nodes"]
    )
    hours = sum(use.seconds for use in uses) / SECONDS_PER_HOUR
    return None if price is None else hours * held * price


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _ratio(forecast: float | None, found: float | None) -> float | None:
    return round(forecast / found, 3) if found and forecast is not None else None
