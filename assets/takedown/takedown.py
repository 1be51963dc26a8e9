"""A takedown: what is asked for of a recipe, all that was found, and what is to be written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.recipe import load_recipe
from assets.takedown.holdings import Holdings
from assets.takedown.ledger import TakenDown
from assets.takedown.lists import SourceList, planned_lists
from assets.takedown.records import read_records
from assets.takedown.request import Request
from assets.takedown.search import Target, corpora, search
from assets.takedown.verify import taken_down


@dataclass(frozen=True, kw_only=True)
class Takedown:
    """What is asked for of a recipe, what was found, and what is to be written."""

    recipe: str
    request: Request
    targets: Sequence[Target]  # of every corpus
    holdings: Holdings
    lists: Sequence[SourceList]

    @property
    def documents(self) -> list[TakenDown]:
        """Return what the ledger gets."""
        published = [
            TakenDown(
                id=name,
                source=rows[0].file.split("/")[1],
                sha1=None,
                url=None,
                why="asked for",
                of=name,
            )
            for spans in self.holdings.published.values()
            for name, rows in spans.items()
        ]
        return [*taken_down(self.targets), *published]


def find(recipe: str, request: Request, root: Path) -> Takedown:
    """Search everything below a root for what is asked for; writes nothing.

    Raises:
        ConfigError: no such recipe, or no corpus knows what is asked for.
    """
    loaded = load_recipe(recipe)
    records = read_records(root)
    found = corpora(records)
    known = search(found, request.lines)
    holdings = Holdings(records=records, corpora=found, asked=[*request.lines], root=root)
    unknown = request.lines.keys() - known - holdings.known()
    searched = sum(record.asset in ("raw", "tokens") for record in records.values())
    request.require_known(unknown, f"the {searched} corpora and token sets below {root}")
    targets = [target for corpus in found for target in corpus.targets.values()]
    return Takedown(
        recipe=recipe,
        request=request,
        targets=targets,
        holdings=holdings,
        lists=planned_lists(loaded, targets),
    )
