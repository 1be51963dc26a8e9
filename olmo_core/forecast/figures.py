"""What a job will take: figures, each with what it rests on, and on what it will run.

Source of the formulas of energy and CO2: `olmo_core.energy`.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.energy import SECONDS_PER_HOUR, EnergyConfig, Use
from olmo_core.monitor.devices import known_device, product_name

# In this order everywhere. `seconds` are those of the job, from its start to its end.
FIGURES = (
    *("tokens", "flops", "seconds", "device_hours", "money", "device_kwh", "site_kwh", "co2_kg"),
    *("disk_bytes", "memory_bytes"),
)


@dataclass(frozen=True, kw_only=True)
class PricesConfig(Bounded):
    """What an hour costs at a place; null is not known."""

    currency: str  # three letters, as in USD
    per_device_hour: float | None = at_least(0, default=None)  # of a GPU
    per_node_hour: float | None = at_least(0, default=None)  # of a node of a job without GPUs

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise ValueError(
                f"currency is {self.currency!r}; expected three capital letters, as in USD"
            )


@dataclass(frozen=True, kw_only=True)
class PlaceEnergyConfig(EnergyConfig):
    """What is stated of a place's power: of its devices, and of nodes that work without GPUs."""

    watts_per_node: float | None = above(0, default=None)  # of a job that does not train


@dataclass(frozen=True, kw_only=True)
class Place:
    """On what a job runs, and what is stated of it. A device is a GPU; without GPUs, a rank."""

    devices: int = 1  # in all
    nodes: int = 1  # workers among them
    cores: int | None = None  # of a node; None: not known
    gpus: bool = False
    device: str = ""  # name of the GPU, where it is stated
    energy: PlaceEnergyConfig = field(default_factory=PlaceEnergyConfig)
    prices: PricesConfig | None = None

    @property
    def kind(self) -> str:
        """Return what a like run must have run on: the GPU's product, or `GPU` or `CPU`."""
        return (product_name(self.device) or "GPU") if self.gpus else "CPU"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What equal finished runs would each have forecast: how far they lie apart."""

    least: float
    most: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value, and the measurement or assumption that it rests on."""

    value: float
    basis: str
    seen: Seen | None = None  # where the value is the median of several runs


def median_of(values: Sequence[float]) -> tuple[float, Seen | None]:
    """Return the median of what equal runs took, and their range; of one run there is none."""
    if len(values) == 1:
        return values[0], None
    seen = Seen(least=min(values), most=max(values), runs=len(values))
    return statistics.median(values), seen


def seconds_said(values: Sequence[float]) -> str:
    """Return so many seconds in words: the median, and of several runs their range."""
    value, seen = median_of(values)
    if seen is None:
        return f"{value:.1f} s"
    return f"{value:.1f} s ({seen.least:.1f} to {seen.most:.1f} s in {seen.runs} runs)"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one job will take. A figure is in `figures`, or in `unknown` with the reason."""

    asset: str
    figures: Mapping[str, Figure]
    unknown: Mapping[str, str]
    # What it will report that the load of later jobs depends on: text_bytes, tokens, …
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    def value(self, name: str) -> float | None:
        """Return a figure's value; None where it is not known."""
        return self.figures[name].value if name in self.figures else None


@dataclass(frozen=True, kw_only=True)
class Total:
    """A figure's sum over jobs; `without` are those of which it is not known."""

    value: float | None
    without: tuple[str, ...]


def total(forecasts: Iterable[Forecast], name: str) -> Total:
    """Return the sum of a figure; of memory the largest, since it is free again after each job."""
    every = [each for each in forecasts if name in each.figures or name in each.unknown]
    known = [each.figures[name].value for each in every if name in each.figures]
    whole = max if name == "memory_bytes" else sum
    return Total(
        value=whole(known) if known else None,
        without=tuple(each.asset for each in every if name in each.unknown),
    )


def charged(
    place: Place, seconds: Figure, *, watts: Figure | None = None, trains: bool = False
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Return device-hours, money, energy and CO2 of a job of this length, and what is not known.

    Args:
        place: Where it runs.
        seconds: Of the job.
        watts: The mean power of a device, if more is known of it than the place states.
        trains: Whether it is a training run, whose ranks are devices also without GPUs.
    """
    of_devices = place.gpus or trains
    watts = watts or (_watts(place) if of_devices else _watts_of_nodes(place))
    stated = EnergyConfig(
        watts_per_device=watts.value if watts else None,
        pue=place.energy.pue,
        carbon_intensity_kg_per_kwh=place.energy.carbon_intensity_kg_per_kwh,
    )
    use = Use(seconds=seconds.value, devices=place.devices, stated=stated)
    found = {"device_hours": Figure(value=use.device_hours, basis=f"{_held(place)} × the time")}
    unknown: dict[str, str] = {}
    money, why = _money(place, seconds.value)
    if money is None:
        unknown["money"] = why
    else:
        found["money"] = Figure(value=money, basis=why)
    if watts is None or use.device_kwh is None:
        key = "watts_per_device" if of_devices else "watts_per_node"
        reason = f"no power is measured or stated (energy.{key} of the site file)"
        return found, unknown | dict.fromkeys(("device_kwh", "site_kwh", "co2_kg"), reason)
    found["device_kwh"] = Figure(value=use.device_kwh, basis=watts.basis)
    if use.site_kwh is None:
        reason = "no PUE is stated (energy.pue of the site file)"
        return found, unknown | dict.fromkeys(("site_kwh", "co2_kg"), reason)
    found["site_kwh"] = Figure(value=use.site_kwh, basis=f"× PUE {stated.pue:g}, stated")
    if use.co2_kg is None:
        reason = "no carbon intensity is stated (energy.carbon_intensity_kg_per_kwh)"
        return found, unknown | {"co2_kg": reason}
    intensity = stated.carbon_intensity_kg_per_kwh
    found["co2_kg"] = Figure(value=use.co2_kg, basis=f"× {intensity:g} kg per kWh, stated")
    return found, unknown


def _held(place: Place) -> str:
    one = (place.device or "GPU") if place.gpus else "process"
    return (
        f"{place.devices} {one}"
        if place.nodes == 1
        else (f"{place.devices} {one} on {place.nodes} nodes")
    )


def price_of(
    prices: PricesConfig, *, gpus: bool, devices: int, nodes: int
) -> tuple[float | None, int]:
    """Return the price of an hour of what is paid for, and how many of it are held.

    Those are the GPUs; of a job without GPUs the nodes.
    """
    return (prices.per_device_hour, devices) if gpus else (prices.per_node_hour, nodes)


def _money(place: Place, seconds: float) -> tuple[float | None, str]:
    """Return what a place costs for so long, and by which price; or None, and why."""
    key = "per_device_hour" if place.gpus else "per_node_hour"
    if place.prices is None:
        return None, f"no price is stated (prices.{key} of the site file)"
    price, count = price_of(place.prices, gpus=place.gpus, devices=place.devices, nodes=place.nodes)
    if price is None:
        return None, f"no price is stated (prices.{key} of the site file)"
    said = f"{price:g} {place.prices.currency} {key.replace('_', ' ')}, stated"
    return count * price * seconds / SECONDS_PER_HOUR, said


def _watts_of_nodes(place: Place) -> Figure | None:
    """Return the power per device of a job that holds nodes without GPUs; None if not stated."""
    stated = place.energy.watts_per_node
    if stated is None:
        return None
    basis = f"assumed, {stated:g} W per node (stated)"
    return Figure(value=stated * place.nodes / place.devices, basis=basis)


def _watts(place: Place) -> Figure | None:
    """Return the power of a device: as stated, else of the GPU's data sheet, else None."""
    stated = place.energy.watts_per_device
    if stated is not None:
        return Figure(value=stated, basis=f"assumed, {stated:g} W per device (stated)")
    known = known_device(place.device) if place.gpus else None
    if known is None or known.watts is None:
        return None
    return Figure(
        value=known.watts,
        basis=f"assumed, {known.watts:g} W per device ({place.device}, data sheet)",
    )
