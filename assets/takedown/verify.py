"""Whether the runs of a recipe as it stands have read any document that must have left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.runs import Lineage
from assets.takedown.ledger import TakenDown, read_ledger
from assets.takedown.lists import takedown_folder
from assets.takedown.search import Target
from olmo_core.corpus.document import excluded_shards, read_documents, text_facts
from olmo_core.corpus.rows import read_rows
from olmo_core.errors import InputError
from olmo_core.lineage.absence import Proof, Unwanted, prove_absence
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


def unwanted(lineage: Lineage, targets: Sequence[Target]) -> Unwanted:
    """Return all that the recipe's runs must not have read.

    That is what its ledger and its lists name, the near copies that its corpus has left out with
    them, and the targets.
    """
    ledger = read_ledger(takedown_folder(lineage.graph.recipe)).values()
    sha1s = {bytes.fromhex(each.sha1) for each in ledger if each.sha1}
    sha1s |= {bytes.fromhex(target.sha1) for target in targets}
    for name, folder in (("raw", "raw"), ("held_out", "held_out")):
        run = lineage.graph.finished(lineage.root, name) if name in lineage.graph.nodes else None
        if run is not None:
            sha1s |= set(_left_out(run.path, folder))
    urls = {target.of for target in targets if target.of == target.url}
    return Unwanted(
        sha1s=sha1s,
        urls=urls | {each.url for each in ledger if each.url},
        ids={each.id for each in ledger} | {target.id for target in targets},
    )


def _left_out(run: Path, asset: str) -> Iterator[bytes]:
    """Yield the SHA-1 of each text that a run has excluded, or left out as near to such a one."""
    if asset == "raw":
        for path in excluded_shards(run):
            for document in read_documents(path):
                yield bytes.fromhex(text_facts(document.text, {})["sha1"])
    else:
        rows = read_rows(run / "held_out.jsonl.gz")
        yield from (bytes.fromhex(row["sha1"]) for row in rows if row["role"] == "near excluded")


def verify(lineage: Lineage, documents: Unwanted) -> Iterator[Verified]:
    """Look through each training run of a recipe as it stands; yield what was found."""
    for asset in lineage.training:
        run = lineage.graph.finished(lineage.root, asset)
        proof, why = None, f"not made; olmo run {lineage.graph.recipe.name} --select {asset}"
        if run is not None:
            try:
                index = lineage.index_folder(run)
                proof, why = prove_absence(lineage.open(run), index, documents), ""
            except InputError as error:
                why = str(error)
        yield Verified(asset=asset, run=run, proof=proof, why=why)


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
