"""What a model card says of device-hours, energy and CO2, each figure with what it rests on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from olmo_core.energy import Use, total
from olmo_core.release.card_tables import table

IN_ALL = "in all"
DIGITS = 4  # significant ones


def energy(uses: Mapping[str, Sequence[Use]]) -> list[str]:
    """Return the table of all training runs and their sum, and what its columns mean."""
    every = [use for run in uses.values() for use in run]
    rows = [_row(name, run) for name, run in uses.items() if run]
    parts = [table([*rows, _row(IN_ALL, every)])] if rows else []
    if not all(use.basis for use in every):
        parts.append(
            "Where a basis is missing, nothing measured the energy and no power was stated; the "
            "time is in the device-hours, and in no other figure."
        )
    if not all(use.co2_kg is not None for use in every):
        parts.append(
            "CO2 is only said where PUE and carbon intensity were stated where the run ran."
        )
    if rows:
        parts.append(
            "Device-hours are those of the training runs alone, from the begin of each attempt to "
            "its end. Those of attempts that failed are among them, and shown apart. Measured is "
            "what counters of the devices saw from the first step on, assumed is a stated power "
            "for the whole time; PUE makes it the site's."
        )
    return parts


def co2_eq_emissions(
    uses: Mapping[str, Sequence[Use]], *, training_type: str, hardware: str
) -> dict[str, Any] | None:
    """Return the hub's key of this name; None unless the emissions of every attempt are known.

    https://huggingface.co/docs/hub/model-cards-co2: `emissions` are in grams.
    """
    every = [use for run in uses.values() for use in run]
    kg = total(use.co2_kg for use in every)
    if kg is None or not all(uses.values()) or any(use.co2_kg is None for use in every):
        return None
    places = _distinct(use.stated.location for use in every)
    found = {
        "emissions": _rounded(1000 * kg),
        "source": f"device energy ({_basis(every)}) × PUE × carbon intensity, stated by the site",
        "training_type": training_type,
        "geographical_location": "; ".join(places),
        "hardware_used": hardware,
    }
    return {key: value for key, value in found.items() if value != ""}


def _row(name: str, uses: Sequence[Use]) -> dict[str, Any]:
    row = {
        "run": name,
        "attempts": len(uses),
        "devices": _same(use.devices for use in uses),
        "hours": _rounded(total(use.seconds / 3600 for use in uses)),
        "device-hours": _rounded(total(use.device_hours for use in uses)),
        "of failed attempts": _rounded(total(use.device_hours for use in uses if use.failed)),
        "device kWh": _rounded(total(use.device_kwh for use in uses)),
        "kWh of failed attempts": _rounded(total(use.device_kwh for use in uses if use.failed)),
        "basis": _basis(uses),
        "PUE": _same(use.stated.pue for use in uses),
        "site kWh": _rounded(_whole(uses, [use.site_kwh for use in uses])),
        "kg CO2 per kWh": _same(use.stated.carbon_intensity_kg_per_kwh for use in uses),
        "kg CO2": _rounded(_whole(uses, [use.co2_kg for use in uses])),
    }
    if name == IN_ALL:
        del row["devices"], row["hours"]  # the runs may have stood side by side
    return {title: value for title, value in row.items() if value not in (None, "")}


def _whole(uses: Sequence[Use], values: Sequence[float | None]) -> float | None:
    """Return the sum of values that follow from an energy; None if it would be of a part of it."""
    parts = [value for use, value in zip(uses, values, strict=True) if use.basis]
    return None if None in parts else total(parts)


def _basis(uses: Sequence[Use]) -> str:
    """Return each basis once, and which attempts are in no figure of energy."""
    said = _distinct(use.basis for use in uses)
    hours = total(use.device_hours for use in uses if not use.basis)
    if said and hours:
        said.append(f"without {_rounded(hours)} device-hours")
    return "; ".join(said)


def _same(values: Iterable[float | None]) -> float | str | None:
    """Return a value that all attempts share; else each of them, in a text."""
    found = _distinct(values)
    return found[0] if len(found) == 1 else " and ".join(f"{value:g}" for value in found)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return [value for value in dict.fromkeys(values) if value not in (None, "")]


def _rounded(value: float | None) -> float | None:
    """Return a figure of `DIGITS` significant digits, whole where it is long."""
    if value is None:
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short >= 10**DIGITS else short
