"""Whether a training run has read any document that must have left: a proof over all its steps."""

from collections.abc import Iterator
from typing import Any

from assets.paths import root
from assets.reuse import located
from assets.takedown.exposed import opened
from assets.takedown.indexes import index_of
from assets.takedown.ledger import TakenDown
from assets.takedown.records import record_of
from assets.takedown.replaced import replaced
from olmo_core.corpus.document import excluded_shards, read_documents, text_facts
from olmo_core.corpus.rows import read_rows
from olmo_core.errors import InputError
from olmo_core.lineage.absence import Proof, Unwanted, prove_absence
from olmo_core.run.folder import RunFolder


def prove(run: RunFolder, recipe: str, more: Unwanted, ledger: tuple[TakenDown, ...]) -> Proof:
    """Look through all that a training run has read.

    Args:
        run: Of a training.
        recipe: Whose it is.
        more: What must not be there beside what the others name.
        ledger: What the recipe has taken down. What the corpus that the run has read excludes, and
            the near copies that it has left out with these, must not be there either.

    Raises:
        InputError: there is no index of the tokens, or what it has read cannot be computed.
    """
    record = record_of(run, root())
    tokens = record.content["inputs"]["tokens"]
    index = index_of(record.inputs["tokens"], tokens["digest"], recipe)
    if index is None:
        raise InputError(
            f"{run.path}: no index of the tokens that it has read ({record.inputs['tokens']}); "
            f"olmo run {recipe} --select documents makes it"
        )
    try:
        opened_run = opened(record)
    except (KeyError, TypeError) as error:
        raise InputError(f"{run.path}: its order cannot be read ({error!r})") from None
    return prove_absence(opened_run, index.path, unwanted(index, more, ledger))


def unwanted(index: RunFolder | None, more: Unwanted, ledger: tuple[TakenDown, ...]) -> Unwanted:
    """Return all that must not be in a corpus: see `prove`; without an index by ledger and more."""
    left = [] if index is None else [*_left_out(index)]
    sha1s = {*more.sha1s, *left, *(bytes.fromhex(each.sha1) for each in ledger if each.sha1)}
    urls = {*more.urls, *(each.url for each in ledger if each.url)}
    own: dict[str, Any] = {}
    if index is not None and "filtered" in (inputs := index.read_result()["inputs"]):
        filtered = RunFolder(located(inputs["filtered"], index, root()))
        own = replaced(filtered, {sha1.hex() for sha1 in sha1s}, urls)
    ids = {*more.ids, *(each.id for each in ledger)}
    return Unwanted(sha1s=sha1s, urls=urls, ids=ids, own_ids=own.keys())


def _left_out(index: RunFolder) -> Iterator[bytes]:
    """Yield the SHA-1 of each text that a corpus excludes, or has left out as near to one."""
    inputs = index.read_result()["inputs"]
    if "raw" in inputs:
        for path in excluded_shards(located(inputs["raw"], index, root())):
            for document in read_documents(path):
                yield bytes.fromhex(text_facts(document.text, {})["sha1"])
    if "held_out" in inputs:
        rows = read_rows(located(inputs["held_out"], index, root()) / "held_out.jsonl.gz")
        yield from (bytes.fromhex(row["sha1"]) for row in rows if row["role"] == "near excluded")
