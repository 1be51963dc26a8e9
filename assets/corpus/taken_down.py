"""Checks: what a recipe has taken down is in no corpus that any recipe reads."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assets.node import Check, Finished, Verdict, check
from assets.takedown.indexes import index_of
from assets.takedown.ledger import TakenDown, everywhere, ledger_path
from assets.takedown.replaced import cached, replaced
from olmo_core.corpus.document import read_documents, read_folder, text_facts
from olmo_core.corpus.duplicates.earlier import EarlierCorpora
from olmo_core.corpus.index.collect import token_rows
from olmo_core.corpus.tokens.listing import listed_times
from olmo_core.files import read_json, write_json
from olmo_core.run.folder import RunFolder

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
    index = index_of(tokens, finished.result["digest"], finished.node.recipe)
    documents = tuple(dict.fromkeys(each for _, each in wanted))
    found = (
        _in_index(index.path, documents)
        if index is not None
        else _in_files(tokens, None if filtered is None else filtered.path, documents)
    )
    if filtered is not None:
        found = list(dict.fromkeys([*found, *_replaced(filtered, documents)]))
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


def _replaced(filtered: RunFolder, documents: Sequence[TakenDown]) -> list[TakenDown]:
    """Return what a corpus has under another text, since parts of it were replaced."""
    sha1s = {each.sha1 for each in documents if each.sha1}
    urls = {each.url for each in documents if each.url}
    there = replaced(filtered, sha1s, urls).values()
    known = {sha1 for sha1, _ in there} | {url for _, url in there if url}
    return [each for each in documents if {each.sha1, each.url} & known]


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


def earlier_without_taken_down(folders: tuple[str, ...]) -> Check:
    """Return the check of `near_duplicates`: no earlier corpus has what was taken down.

    Args:
        folders: Of the earlier corpora, as the recipe names them.
    """

    @check("No earlier corpus holds a document that a recipe has taken down (olmo takedown).")
    def earlier_without_taken_down(_: Finished) -> Verdict:
        documents = tuple(dict.fromkeys(each for _, each in everywhere()))
        if not documents:
            return Verdict(True, "no recipe has taken anything down")
        earlier = EarlierCorpora.of(folders)
        found = _in_earlier(earlier, documents)
        if not found:
            return Verdict(
                True, f"none of {len(documents):,} documents in {len(earlier.files)} files"
            )
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return Verdict(
            False,
            f"{len(found)} documents of near_duplicates.earlier were taken down: "
            f"{', '.join(found[:_SHOWN])}{more}. Take them out of these files, or the folder out "
            "of the recipe",
        )

    return earlier_without_taken_down


def _in_earlier(earlier: EarlierCorpora, documents: tuple[TakenDown, ...]) -> list[str]:
    """Return file and line of what was taken down; files are read once for the same documents."""
    files = [*map(str, earlier.files)]
    path = cached(files, earlier.record["sha256"], sorted(map(str, documents)))
    if path.is_file():
        return [str(each) for each in read_json(path)["found"]]
    sha1s, urls = {each.sha1 for each in documents}, {each.url for each in documents} - {None}
    found: list[str] = []
    for file in files:
        for line, document in enumerate(read_documents(Path(file)), start=1):
            facts = text_facts(document.text, document.metadata)
            if facts["sha1"] in sha1s or facts["url"] in urls:
                found.append(f"{file}:{line}")
    write_json(path, {"found": found})
    return found
