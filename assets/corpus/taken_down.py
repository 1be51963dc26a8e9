"""The check of `tokens`: what a recipe has taken down is in no corpus that any recipe trains on."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assets.node import Finished, Verdict, check
from assets.paths import root
from assets.reuse import every_run
from assets.takedown.ledger import TakenDown, everywhere, ledger_path
from olmo_core.corpus.document import read_folder, text_facts
from olmo_core.corpus.index.collect import token_rows
from olmo_core.corpus.tokens.listing import listed_times

if TYPE_CHECKING:
    from olmo_core.data.document_index import DocumentIndex

LEFT = ("excluded", "near excluded")  # reasons of the index: raw's, and held_out's
_SHOWN = 3  # documents in a message


@check("It holds no document that a recipe has taken down (olmo takedown).")
def nothing_taken_down(finished: Finished) -> Verdict:
    """Look for the text of each in the index of these tokens; without one in all that was read."""
    wanted = [*everywhere()]
    if not wanted:
        return Verdict(True, "no recipe has taken anything down")
    tokens, filtered = finished.folder.path, finished.inputs.get("filtered")
    index = _index_of(finished)
    documents = tuple(dict.fromkeys(each for _, each in wanted))
    found = (
        _in_index(index, documents)
        if index is not None
        else _in_files(tokens, None if filtered is None else filtered.path, documents)
    )
    if not found:
        return Verdict(True, f"none of {len(documents):,} documents", {"texts": len(documents)})
    return Verdict(False, _refusal(finished.node.recipe, wanted, found))


def _refusal(
    recipe: str, wanted: Sequence[tuple[str, TakenDown]], found: Sequence[TakenDown]
) -> str:
    by = {each: name for name, each in reversed(wanted)}
    named = ", ".join(f"{each.id!a} (by {by[each]})" for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    said = f"holds {len(found)} documents that were taken down: {named}{more}. "
    if any(each.sha1 is None for each in found):
        return said + (
            "They stand in published token files, of which no document can be left out: take the "
            "files out of tokens.published, or have them published without"
        )
    return said + (
        "They must leave this recipe too: "
        f"olmo takedown {recipe} --docs {ledger_path(by[found[0]])} --write"
    )


def _index_of(finished: Finished) -> Path | None:
    """Return the run folder of `documents` of these very tokens, whoever made it."""
    tokens = finished.folder.path
    recipes = {tokens.parents[2]: tokens.parents[1].name, root(): finished.node.recipe}  # by root
    for within, recipe in recipes.items():
        for run in every_run(within / recipe / "documents", within):
            if run.finished:
                read = run.read_result()["inputs"].get("tokens", {})
                if read.get("digest") == finished.result["digest"]:
                    return run.path
    return None


@functools.lru_cache(maxsize=8)  # a plan asks for each asset that is made from the tokens
def _in_index(index: Path, documents: tuple[TakenDown, ...]) -> list[TakenDown]:
    from olmo_core.data.document_index import DocumentIndex  # pyarrow

    opened = DocumentIndex(index)
    return [each for each in documents if _is_in(opened, each)]


def _is_in(index: "DocumentIndex", document: TakenDown) -> bool:
    """Return whether a corpus has a document: tokenised, held out or dropped by a rule."""
    try:
        if any(row.sha1 is None for row in index.of_id(document.id)):
            return True  # of a published token file: nothing but its id is known
    except KeyError:
        pass  # no document of this id was tokenised
    sha1 = bytes.fromhex(document.sha1) if document.sha1 else None
    dropped = index.dropped_of_sha1(sha1) if sha1 else []
    dropped += index.dropped_of_url(document.url) if document.url else []
    known = index.of_sha1(sha1) if sha1 else []
    known += index.of_url(document.url) if document.url else []
    return bool(known) or any(row.reason not in LEFT for row in dropped)


@functools.lru_cache(maxsize=2)
def _in_files(
    tokens: Path, filtered: Path | None, documents: tuple[TakenDown, ...]
) -> list[TakenDown]:
    """Look through the documents that were tokenised, and the rows of published files."""
    sha1s = {each.sha1: each for each in documents if each.sha1}
    urls = {each.url: each for each in documents if each.url}
    ids = {each.id: each for each in documents}
    found: dict[TakenDown, None] = {}
    for document in read_folder(filtered / "documents") if filtered is not None else ():
        facts = text_facts(document.text, document.metadata)
        for each in (sha1s.get(facts["sha1"]), urls.get(facts["url"])):
            if each is not None:
                found[each] = None
    for name in listed_times(tokens):
        rows = token_rows(tokens / name)
        found |= {ids[each]: None for each in rows["id"].to_pylist() if each in ids}
    return list(found)
