"""The check of a training run: nothing that was taken down is in any batch of any of its steps."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from assets.node import Check, Finished, Verdict, check
from assets.takedown.ledger import TakenDown, read_ledger
from olmo_core.errors import InputError
from olmo_core.run.folder import RunFolder

if TYPE_CHECKING:
    from olmo_core.lineage.absence import Proof

_SHOWN = 3  # documents in a message


def no_batch_holds(folder: Path) -> tuple[Check, ...]:
    """Return the check of a training run of a recipe that has taken documents down; else none.

    Args:
        folder: That the recipe's ledger stands in.
    """
    if not read_ledger(folder):
        return ()

    @check("No batch of any of its steps holds a document that was taken down.")
    def no_batch_holds_taken_down(finished: Finished) -> Verdict:
        ledger = tuple(read_ledger(folder).values())
        try:
            proof = _prove_once(finished.folder.path, finished.node.recipe, ledger)
        except InputError as error:
            return Verdict(False, f"not proven: {error}")
        figures = {
            "steps": proof.steps,
            "instances": proof.instances,
            "tokens": proof.tokens,
            "documents": proof.documents,
        }
        if proof.holds:
            said = ", ".join(f"{count:,} {name}" for name, count in figures.items())
            return Verdict(True, f"looked at {said}: none is of these", figures)
        named = ", ".join(f"{each.id!a} ({each.tokens} tokens)" for each in proof.held[:_SHOWN])
        more = f" and {len(proof.held) - _SHOWN} more" if len(proof.held) > _SHOWN else ""
        return Verdict(False, f"its batches hold {named}{more}", figures)

    return (no_batch_holds_taken_down,)


@functools.lru_cache(maxsize=64)  # whatever is made from the run asks again; a run never changes
def _prove_once(run: Path, recipe: str, ledger: tuple[TakenDown, ...]) -> "Proof":
    from assets.takedown.proof import prove  # pyarrow
    from olmo_core.lineage.absence import Unwanted

    return prove(RunFolder(run), recipe, Unwanted(sha1s=(), urls=(), ids=()), ledger)
