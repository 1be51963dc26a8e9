"""What a recipe may take at most, and by how much a launch would exceed it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from olmo_core.config.bounds import Bounded, above
from olmo_core.forecast.figures import Forecast, total

# Key of a budget -> the figure that it limits, and the figure's units in one of the key's.
LIMITED = {
    "device_hours": ("device_hours", 1.0),
    "money": ("money", 1.0),
    "energy_kwh": ("device_kwh", 1.0),
    "co2_kg": ("co2_kg", 1.0),
    "disk_gb": ("disk_bytes", 1e9),
}
MOST_NAMED = 3  # jobs that an error names


@dataclass(frozen=True, kw_only=True)
class BudgetConfig(Bounded):
    """The file budget.yaml of a recipe: the most that all runs in its folder may take together.

    Raises:
        ValueError: money without its currency.
    """

    device_hours: float | None = above(0, default=None)
    money: float | None = above(0, default=None)
    currency: str | None = None  # of `money`; the site's prices must be in it
    energy_kwh: float | None = above(0, default=None)  # of the devices
    co2_kg: float | None = above(0, default=None)
    disk_gb: float | None = above(0, default=None)  # 10⁹ bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.money is not None and self.currency is None:
            raise ValueError("currency is missing; expected the currency of money, as in USD")

    @property
    def limits(self) -> dict[str, float]:
        """Return the keys that are given, with their limits."""
        values = {key: getattr(self, key) for key in LIMITED}
        return {key: value for key, value in values.items() if value is not None}


def excesses(
    budget: BudgetConfig,
    forecasts: Sequence[Forecast],
    spent: Mapping[str, float],
    *,
    currency: str | None,
) -> list[str]:
    """Return a line per limit that what is spent and these jobs together would exceed, or that
    cannot be held since nothing is known of its figure.

    Args:
        budget: The recipe's.
        forecasts: Of the jobs that are to be launched.
        spent: What was taken before, by figure.
        currency: Of the site's prices.
    """
    lines: list[str] = []
    for key, limit in budget.limits.items():
        figure, unit = LIMITED[key]
        if key == "money" and currency != budget.currency:
            lines.append(
                f"money: {limit:g} {budget.currency}, but the site's prices are "
                f"{f'in {currency}' if currency else 'not stated (prices of the site file)'}"
            )
            continue
        whole = total(forecasts, figure)
        if whole.value is None:
            if whole.without:
                reason = next(f.unknown[figure] for f in forecasts if figure in f.unknown)
                lines.append(f"{key}: {limit:g}, but it cannot be forecast: {reason}")
            continue
        value, before = whole.value / unit, spent.get(figure, 0.0) / unit
        if value + before > limit:
            lines.append(
                f"{key}: {limit:g}, but this launch is forecast to take {value:.4g} "
                f"({_largest(forecasts, figure, unit)}), beside {before:.4g} before"
            )
    return lines


def unforeseen(budget: BudgetConfig, forecasts: Sequence[Forecast]) -> list[str]:
    """Return a line per limit of the jobs that are in no sum, since nothing says what they take.

    Launches of their own would be refused, so a run that makes them among others is to be, too.
    """
    lines: list[str] = []
    for key in budget.limits:
        whole = total(forecasts, LIMITED[key][0])
        if whole.value is not None and whole.without:
            figure = LIMITED[key][0]
            reason = next(each.unknown[figure] for each in forecasts if figure in each.unknown)
            lines.append(
                f"{key}: without {', '.join(whole.without)}, of which it is not known: {reason}"
            )
    return lines


def _largest(forecasts: Sequence[Forecast], figure: str, unit: float) -> str:
    known = [(each.value(figure) or 0.0, each.asset) for each in forecasts]
    largest = sorted(known, reverse=True)[:MOST_NAMED]
    return ", ".join(f"{asset} {value / unit:.4g}" for value, asset in largest)
