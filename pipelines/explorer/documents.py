"""`/documents/<recipe>?q=…`: a document: kept or why it was dropped, what saw it, and its text."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from assets.lineage.answers import DocumentAnswer, LeftOut, trace_document
from assets.lineage.models import Exposure
from assets.lineage.runs import Lineage
from assets.reuse import located
from olmo_core.corpus.document import read_documents
from olmo_core.data.document_index import DROPPED, IDS
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.run import TrainingRun
from olmo_core.lineage.visits import DocumentInRun
from olmo_core.run.folder import RunFolder
from pipelines.explorer import addresses
from pipelines.explorer.lineages import lineage_of
from pipelines.explorer.plan import require_recipe
from pipelines.explorer.render import Page, Publishable

MOST_CHARACTERS = 100_000  # of a text that are shown
MOST_QUERY = 4096
MOST_FOUND = 50  # documents whose id or URL holds what is searched for
MOST_VISITS = 200
LIKE = """
select id, source, url, reason from (
    select id, source, url, null as reason from read_parquet($kept)
    union all select id, source, url, asset || ': ' || reason from read_parquet($dropped)
) where contains(lower(id), $text) or contains(lower(coalesce(url, '')), $text)
order by id limit $most
"""


def documents_page(recipe: str, query: str, publishable: Publishable) -> Page:
    """Return what is known of the documents of an id, a URL or a SHA-1; else those like it.

    Args:
        recipe: Its name.
        query: What is searched for; empty: some documents are shown.
        publishable: Whether the page may hold texts of a source; None: of all, dropped ones too.

    Raises:
        Missing: no such recipe.
        ConfigError, InputError: it is broken, or nothing of it is indexed.
    """
    require_recipe(recipe)
    query = query.strip()[:MOST_QUERY]
    with lineage_of(recipe) as lineage:
        answers: list[dict[str, Any]] = []
        untraced: list[str] = []
        if query:
            try:
                found, unknown = trace_document(lineage, query)
            except ConfigError:  # of this id, URL or SHA-1 exactly there is none
                pass
            else:
                answers = [_answer(lineage, each, publishable) for each in found]
                untraced = [f"{each.run.path.name}: {each.why}" for each in unknown]
        like = [] if answers else _like(lineage, query)
    return Page(
        template="documents.html",
        title=f"Documents of {recipe}" + (f": {query[:80]}" if query else ""),
        values={
            "recipe": recipe,
            "query": query,
            "answers": answers,
            "untraced": untraced,
            "like": like,
            "most": MOST_FOUND,
        },
    )


def _like(lineage: Lineage, text: str) -> list[dict[str, Any]]:
    """Return the documents whose id or URL holds a text, by id; without a text the first ones.

    Raises:
        InputError: there is no index.
    """
    import duckdb  # with pyarrow half a second

    runs = [run.folder for run in lineage.every() if isinstance(run, TrainingRun)]
    indexes = lineage.indexes(runs)
    if not indexes:
        name = lineage.graph.recipe.name
        raise InputError(f"{name}: no documents index is made; olmo run {name} --select documents")
    named = {
        "kept": [f"{index}/{IDS}/part-*.parquet" for index in indexes],
        "dropped": [f"{index}/{DROPPED}/part-*.parquet" for index in indexes],
    }
    with duckdb.connect() as connection:
        rows = connection.execute(LIKE, {**named, "text": text.lower(), "most": MOST_FOUND})
        return [
            {"id": name, "source": source, "url": url, "reason": reason}
            for name, source, url, reason in rows.fetchall()
        ]


def _answer(lineage: Lineage, answer: DocumentAnswer, publishable: Publishable) -> dict[str, Any]:
    visits = [(seen, visit) for seen in answer.runs for visit in seen.visits]
    shown = publishable is None or (
        # What was dropped may have been dropped for what it tells of somebody.
        not answer.left_out and all(publishable(each.source) for each in answer.documents)
    )
    return {
        "id": answer.id,
        "documents": answer.documents,
        "left_out": answer.left_out,
        "mixes": answer.mixes,
        "runs": [_run(lineage, seen) for seen in answer.runs],
        "models": [
            {
                "name": f"{model.name}/{model.run.path.name}",
                "seen": ", ".join(
                    ("" if each.unknown is None else "at least ") + _times(exposures[each.label])
                    for each in model.ingredients
                    if each.label in exposures
                ),
                "revisions": model.revisions,
            }
            for model, exposures in answer.models
        ],
        "visits": visits[:MOST_VISITS],
        "more_visits": max(0, len(visits) - MOST_VISITS),
        "text": _text(lineage, answer) if shown else None,
        "withheld": not shown,
    }


def _run(lineage: Lineage, seen: DocumentInRun) -> dict[str, Any]:
    first = seen.first_checkpoint
    return {
        "label": seen.run.label,
        "link": addresses.model_of(seen.run.folder.path),
        "mix": lineage.mix_of(seen.run.folder),
        "in_a_pass": seen.mix_tokens,
        "read": sum(visit.tokens for visit in seen.visits),
        "trained": seen.trained_tokens(),
        "times": seen.trained_tokens() / seen.tokens,
        "first": None if first is None else first.name,
    }


def _times(exposure: Exposure) -> str:
    return f"{exposure.times:.3g} ×" if exposure.tokens else "0 ×"


def _text(lineage: Lineage, answer: DocumentAnswer) -> dict[str, Any]:
    """Return a document's text as it is stored, or why there is none."""
    try:
        text = _stored(lineage, answer)
    except (InputError, FileNotFoundError, KeyError, StopIteration) as error:
        return {"text": "", "cut": 0, "why": str(error) or "its file is shorter than it was"}
    if text is None:
        return {"text": "", "cut": 0, "why": "documents of published token files have no text here"}
    return {"text": text[:MOST_CHARACTERS], "cut": max(0, len(text) - MOST_CHARACTERS), "why": None}


def _stored(lineage: Lineage, answer: DocumentAnswer) -> str | None:
    if answer.left_out:
        left: LeftOut = answer.left_out[0]
        where = "raw" if left.document.asset == "raw" else "held_out"
        index, src, line = left.index, left.document.src, left.document.loc
    else:
        [document, *_] = answer.documents
        if document.sha1 is None:
            return None
        where, src, line = "filtered", document.src, document.loc
        index = _index_of(lineage, answer)
    run = RunFolder(index)
    folder = located(run.read_result()["inputs"][where], run, lineage.root)
    path = (folder / src).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"{src}: not in the run folder of {where}")
    found = next(islice(read_documents(path), line - 1, None))
    if found.id != answer.id:
        raise InputError(f"{src}:{line}: holds another document now")
    return found.text


def _index_of(lineage: Lineage, answer: DocumentAnswer) -> Path:
    """Return the index that knows a kept document."""
    indexes: Sequence[Path] = lineage.indexes([seen.run.folder for seen in answer.runs])
    for index in indexes:
        try:
            lineage.open_index(index).of_id(answer.id)
        except KeyError:
            continue
        return index
    raise KeyError(f"{answer.id}: in no index")
