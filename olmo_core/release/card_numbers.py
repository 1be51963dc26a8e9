"""Find each number of a model card in the run folders that it was written from.

Writing a card anew and comparing finds a card that somebody has changed, not code that writes a
wrong figure. So the folders are read here as they are: each number must stand in a file of a run,
or follow from such numbers in one of the ways of `derived`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.config.load import load
from olmo_core.energy import Use, total
from olmo_core.evals.results import connect, query
from olmo_core.release.card_facts import Facts
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder

# What is no figure: code, names in the type of code, versions of packages, fixed words.
NO_FIGURES = re.compile(
    r"```.*?```|`[^`\n]*`|^Versions: [^\n]*|[Ss]tage \d|about 20 are usual",
    re.DOTALL | re.MULTILINE,
)
# A number that is no part of a word: neither `step391` nor `wikitext-103` has one.
NUMBER = re.compile(r"(?<![\w.])(?<!\w[-/])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w|[-/.]\w)")
SHORT = 12  # characters shown of a fingerprint, a digest and a commit
DIGITS = 4  # significant ones, of hours, energy and CO2


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The values of some files."""

    numbers: frozenset[float]
    texts: frozenset[str]  # with the beginnings of those that a card cuts

    def has(self, shown: str) -> bool:
        """Return whether a card may show this number.

        A whole one must be equal, one with decimals the rounding of a recorded one to as many.
        """
        if shown in self.texts:
            return True
        value, decimals = float(shown.replace(",", "")), len(shown.partition(".")[2])
        if "e" in shown or not decimals:
            return value in self.numbers
        return any(round(number, decimals) == value for number in self.numbers)

    def lacks(self, card: str) -> list[str]:
        """Return each number of a card that is none of these, as it is shown."""
        return [shown for shown in dict.fromkeys(numbers_of(card)) if not self.has(shown)]


def numbers_of(card: str) -> list[str]:
    """Return the numbers of a card as they are shown, in their order."""
    return NUMBER.findall(NO_FIGURES.sub("", card))


def recorded(inputs: Iterable[Path], beside: Iterable[float] = ()) -> Recorded:
    """Return what run folders say: results, submissions, configurations, attempts and scores.

    `beside` are numbers that stand in none of them.
    """
    values = [value for folder in inputs for file in _files(folder) for value in _values(file)]
    texts = {value for value in values if isinstance(value, str)}
    numbers = [value for value in values if not isinstance(value, str)]
    return Recorded(
        numbers=frozenset(map(float, [*numbers, *beside])),
        texts=frozenset(texts | {text[:SHORT] for text in texts}),
    )


def of_the_author(section: Mapping[str, Any]) -> Iterator[float]:
    """Yield the numbers in the texts of a recipe's section `model_card`."""
    for text in _values(section):
        yield from (float(shown.replace(",", "")) for shown in numbers_of(str(text)))


def derived(facts: Facts) -> Iterator[float]:
    """Yield what follows from records: tokens behind models and read of sources, hours, energy."""
    parameters = facts.export["numbers"]["parameters"]
    for model in facts.export["data"]["models"]:
        tokens = facts.tokens_in_all(model["model"])
        if tokens is not None:
            yield from (tokens, round(tokens / parameters, 1))
    for sources in facts.read.values():
        in_all = sum(sources.values())
        yield from (in_all, *sources.values())
        yield from (round(n / in_all, 4) for n in sources.values() if in_all)
    runs = list(facts.uses.values())
    for uses in (*runs, [use for run in runs for use in run]):
        yield len(uses)
        without = [use for use in uses if not use.basis]
        for part in (uses, [use for use in uses if use.failed], without):
            yield from _spent(part)


def _spent(uses: Sequence[Use]) -> Iterator[float]:
    """Yield hours, energy (kWh) and CO2 (kg, g) of some attempts, rounded as a card has them."""
    sums = [
        total(use.seconds / 3600 for use in uses),
        total(use.device_hours for use in uses),
        total(use.device_kwh for use in uses),
        total(use.site_kwh for use in uses),
        co2 := total(use.co2_kg for use in uses),
        None if co2 is None else 1000 * co2,
    ]
    yield from (float(f"{value:.{DIGITS}g}") for value in sums if value is not None)


def _files(folder: Path) -> Iterator[Any]:
    """Yield the content of each file of a run folder that a card may be written from."""
    run = RunFolder(folder)
    yield from (run.read(run.result), run.read(run.launch), attempts.read(run))
    for path in (run.config, folder / "model" / run.config.name):
        if path.exists():
            yield load(path)
    if (folder / "rows.parquet").exists():
        with connect(folder) as connection:
            yield query(connection, "select * from rows")


def _values(content: Any) -> Iterator[float | str]:
    """Yield the numbers and texts in nested mappings and lists."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from _values(part)
    elif isinstance(content, int | float | str):
        yield content
