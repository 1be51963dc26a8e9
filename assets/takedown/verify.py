"""Whether the runs of a recipe as it stands have read any document that must have left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.corpus.exclusions import takedown_folder
from assets.graph import Graph
from assets.takedown.indexes import index_of
from assets.takedown.ledger import TakenDown, read_ledger
from assets.takedown.proof import prove, unwanted
from assets.takedown.search import Target
from olmo_core.errors import InputError
from olmo_core.lineage.absence import Proof, Unwanted
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What is known of a training run of a recipe as it stands."""

    asset: str
    run: RunFolder | None  # None: it has not been made
    proof: Proof | None
    why: str  # there is no proof

    @property
    def passed(self) -> bool:
        """Return whether no batch of it holds any of the documents."""
        return self.proof is not None and self.proof.holds


def named_by(targets: Sequence[Target]) -> Unwanted:
    """Return the targets as what must not be there."""
    return Unwanted(
        sha1s={bytes.fromhex(target.sha1) for target in targets},
        urls={target.of for target in targets if target.of == target.url},
        ids={target.id for target in targets},
    )


def looked_for(graph: Graph, root: Path, targets: Sequence[Target]) -> Unwanted:
    """Return all that the recipe's runs must not have read, as far as its corpus is made."""
    tokens = graph.finished(root, "tokens")
    index = None
    if tokens is not None:
        digest = tokens.read_result()["digest"]
        index = index_of(tokens.path, digest, graph.recipe.name)
    return unwanted(index, named_by(targets), _ledger(graph))


def verify(graph: Graph, root: Path, targets: Sequence[Target]) -> Iterator[Verified]:
    """Look through each training run of a recipe as it stands; yield what was found."""
    recipe, more, ledger = graph.recipe.name, named_by(targets), _ledger(graph)
    for asset in (name for name, node in graph.nodes.items() if node.distributed):
        run = graph.finished(root, asset)
        proof, why = None, f"not made; olmo run {recipe} --select {asset}"
        if run is not None:
            try:
                proof, why = prove(run, recipe, more, ledger), ""
            except InputError as error:
                why = str(error)
        yield Verified(asset=asset, run=run, proof=proof, why=why)


def _ledger(graph: Graph) -> tuple[TakenDown, ...]:
    return tuple(read_ledger(takedown_folder(graph.recipe)).values())


def taken_down(targets: Sequence[Target]) -> list[TakenDown]:
    """Return the rows of the ledger for these documents, a text once."""
    found = {
        target.sha1: TakenDown(
            id=target.id,
            source=target.source,
            sha1=target.sha1,
            url=target.url if target.of == target.url else None,
            why=target.why,
            of=target.of,
        )
        for target in targets
    }
    return list(found.values())
