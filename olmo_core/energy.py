"""Device-hours, energy and CO2 of runs, from what their folders say, or of a forecast.

A device is a GPU; of a job without GPUs, a rank. Source of the formula: Patterson et al. 2021,
Carbon Emissions and Large Neural Network Training: kg = hours × devices × kW per device × PUE × kg
per kWh. What nobody measured or stated is in no figure. Free of torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.config.load import build, load
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder, read_rows

JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600
COUNTERS = ("nvml", "rapl")  # of `energy_source`: what measures; anything else is a stated power
WISHED = ("finished", "stopped", "preempted", "time_limit")  # ends of attempts that did not fail


@dataclass(frozen=True, kw_only=True)
class EnergyConfig(Bounded):
    """What is stated of the devices of a place, and of its power; null is not known."""

    watts_per_device: float | None = above(0, default=None)  # where nothing measures it
    pue: float | None = at_least(1, default=None)  # energy of the whole site / of its devices
    carbon_intensity_kg_per_kwh: float | None = at_least(0, default=None)  # CO2 equivalents
    location: str = ""  # for readers: a town, a region or a country


@dataclass(frozen=True, kw_only=True)
class Use:
    """Devices held for a time: an attempt at a run, or a forecast of one."""

    seconds: float
    devices: int
    stated: EnergyConfig = field(default_factory=EnergyConfig)
    measured_kwh: float | None = None  # by counters of the devices
    counter: str = ""  # whose
    failed: bool = False  # an attempt that ended by no one's wish

    @property
    def device_hours(self) -> float:
        """Return hours × devices."""
        return self.seconds * self.devices / SECONDS_PER_HOUR

    @property
    def device_kwh(self) -> float | None:
        """Return the energy of the devices (kWh): measured, else of the stated power, else None."""
        if self.measured_kwh is not None:
            return self.measured_kwh
        watts = self.stated.watts_per_device
        return None if watts is None else self.device_hours * watts / 1000

    @property
    def basis(self) -> str:
        """Return what `device_kwh` rests on; empty where it is None."""
        if self.measured_kwh is not None:
            return f"measured ({self.counter})"
        watts = self.stated.watts_per_device
        return "" if watts is None else f"assumed, {watts:g} W per device"

    @property
    def site_kwh(self) -> float | None:
        """Return the energy that the site took for it (kWh): cooling and losses too, by the PUE."""
        return _product(self.device_kwh, self.stated.pue)

    @property
    def co2_kg(self) -> float | None:
        """Return the emissions of `site_kwh` (kg of CO2 equivalents)."""
        return _product(self.site_kwh, self.stated.carbon_intensity_kg_per_kwh)


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def run_uses(folder: RunFolder) -> list[Use]:
    """Return what each attempt at a finished run took, in their order, up to the one that finished.

    Empty for a result that does not say when it was made. Times are of `attempts.jsonl`, those of
    the last attempt's end and of a run that was started by hand of `result.json`. The energy that
    counters saw is that of `metrics.jsonl`: an attempt's last total without the total at the step
    from which it went on. An attempt that was lost with its node ends at its last row.
    """
    result = folder.read_result()
    if "finished" not in result:
        return []
    last = int(result["attempt"])
    begun, ends, rows = attempts.began(folder), attempts.ended(folder), read_rows(folder.metrics)
    source = result["report"]["data"].get("energy_source")
    measured = _measured_kwh(rows) if source in COUNTERS else {}
    uses: list[Use] = []
    for number in [*(each for each in sorted(begun) if each < last), last]:
        begin = begun.get(number, {"time": result["started"]})
        cause = "finished" if number == last else ends.get(number, {}).get("cause", "node_lost")
        end = result["finished"] if number == last else ends.get(number, begin)["time"]
        if cause == "node_lost":  # noticed when the next one began, perhaps after days in a queue
            seen = [row["time"] for row in rows if row.get("attempt") == number and "time" in row]
            end = max(seen, default=begin["time"])
        devices, stated = _place(folder, result, begin.get("place") or {})
        uses.append(
            Use(
                seconds=max(0.0, end - begin["time"]),
                devices=devices,
                stated=stated,
                measured_kwh=measured.get(number),
                counter=source if number in measured else "",
                failed=cause not in WISHED,
            )
        )
    return uses


def _place(
    folder: RunFolder, result: Mapping[str, Any], place: Mapping[str, Any]
) -> tuple[int, EnergyConfig]:
    """Return the devices of an attempt and what was stated of them where it ran."""
    known = {key: place[key] for key in EnergyConfig.__dataclass_fields__ if key in place}
    if folder.config.exists():
        core: Mapping[str, Any] = load(folder.config).get("core") or {}
        if core.get("power_watts") is not None:  # of this very run
            known["watts_per_device"] = core["power_watts"]
    ranks = result["report"].get("numbers", {}).get("ranks", 1)
    return int(place.get("devices", ranks)), build(EnergyConfig, known, where="energy")


def _measured_kwh(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the energy of each attempt that logged some, from the running totals of its rows."""
    totals: dict[int, dict[int, float]] = {}  # attempt -> step -> kWh of the run until then
    for row in rows:
        if "energy/total_kWh" in row:
            totals.setdefault(row["attempt"], {})[row["step"]] = row["energy/total_kWh"]
    found: dict[int, float] = {}
    reached: dict[int, float] = {}  # by the attempts so far
    for attempt, own in sorted(totals.items()):
        before = [step for step in reached if step < min(own)]
        found[attempt] = own[max(own)] - (reached[max(before)] if before else 0.0)
        reached = {step: reached[step] for step in before} | own
    return found


def _product(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor
