"""How the scores of fastText classifiers are spread over the documents of a source."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MOST_LABELS = 20  # of a tagger and a source that the table shows
BINS = 101  # of a hundredth each; the last holds 1 alone


@dataclass(kw_only=True)
class Spread:
    """The scores of a label. Sums of integers: the same however the files are divided."""

    millionths: int = 0  # sum of all scores
    bins: list[int] = field(default_factory=lambda: [0] * BINS)  # documents by score

    def add(self, score: float) -> None:
        """Count a document with a score from 0 to 1."""
        millionths = round(score * 1e6)
        self.millionths += millionths
        self.bins[millionths // 10_000] += 1

    def join(self, facts: Mapping[str, Any]) -> None:
        """Add what `facts` says of other files."""
        self.millionths += facts["millionths"]
        self.bins = [ours + theirs for ours, theirs in zip(self.bins, facts["bins"], strict=True)]

    @property
    def documents(self) -> int:
        """Return the number of documents that have a score."""
        return sum(self.bins)

    @property
    def at_least_half(self) -> int:
        """Return the number of documents with a score of 0.5 or more."""
        return sum(self.bins[50:])

    def row(self) -> dict[str, int | float]:
        """Return the figures; quantiles are rounded down to hundredths."""
        return {
            "documents": self.documents,
            "at_least_half": self.at_least_half,
            "mean": round(self.millionths / self.documents / 1e6, 4),
            **{name: self._quantile(n) for name, n in (("p10", 1), ("median", 5), ("p90", 9))},
        }

    def _quantile(self, tenths: int) -> float:
        reached = 0
        for hundredths, count in enumerate(self.bins):
            reached += count
            if reached * 10 >= tenths * self.documents:
                return hundredths / 100
        raise ValueError("no document has a score")


class Scores:
    """Spreads by source and attribute, of those attributes that classifiers write."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        """Prepare to count the attributes whose names begin so."""
        self._prefixes = tuple(prefixes)
        self._found: dict[str, dict[str, Spread]] = defaultdict(lambda: defaultdict(Spread))

    def add(self, source: str, attributes: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """Count a document: of several spans, its score is the mean by their characters."""
        for name, spans in attributes.items():
            if name.startswith(self._prefixes):
                characters = sum(end - start for start, end, _ in spans)
                if characters:
                    whole = sum(score * (end - start) for start, end, score in spans)
                    # A sum of rounded products may end above 1.
                    self._found[source][name].add(min(1.0, whole / characters))

    def facts(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what was counted, as JSON holds it; `join` takes it."""
        return {
            source: {name: asdict(spread) for name, spread in found.items()}
            for source, found in self._found.items()
        }

    def join(self, facts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Add what was counted over other files."""
        for source, found in facts.items():
            for name, spread in found.items():
                self._found[source][name].join(spread)

    def table(self) -> list[dict[str, Any]]:
        """Return a row per source, tagger and label, of each tagger's most frequent labels."""
        rows: list[dict[str, Any]] = []
        for source, found in sorted(self._found.items()):
            for prefix in self._prefixes:
                labels = sorted(
                    (-spread.at_least_half, -spread.millionths, name)
                    for name, spread in found.items()
                    if name.startswith(prefix)
                )
                rows += [
                    {
                        "source": source,
                        "tagger": prefix.split("__", 1)[1].removesuffix("__"),
                        "label": name.removeprefix(prefix),
                        **found[name].row(),
                    }
                    for *_, name in labels[:MOST_LABELS]
                ]
        return rows
