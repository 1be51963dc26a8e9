"""`olmo trace doc`: what saw a document, or why nothing did."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from rich.console import Console

from assets.lineage.answers import DocumentAnswer, UnknownDocument, trace_document
from assets.lineage.models import Exposure, Model
from assets.lineage.quotes import QuoteAnswer, trace_quote
from assets.lineage.runs import Lineage, Untraced
from olmo_core.data.document_index import IndexedDocument
from olmo_core.errors import ConfigError
from olmo_core.lineage.quotes.find import TooShort
from olmo_core.lineage.visits import DocumentInRun, Visit
from pipelines.cli.terminal import counted, plain, plain_line, print_json, table, terminal

SHOWN_VISITS = 40  # of a document, on a terminal


def print_document(recipe: str, query: str, *, limit: int, places: int, as_json: bool) -> None:
    """Print what saw a document, or the documents that hold a quoted text.

    Args:
        recipe: Its name.
        query: The document, or the text.
        limit: Documents that hold the text and are traced.
        places: Places in the index that are looked at.
        as_json: Print JSON.

    Raises:
        ConfigError: no such recipe, no index of it knows the document, or none holds the quote.
        InputError: what saw it cannot be computed.
    """
    lineage = Lineage(recipe)
    try:
        answers, untraced = trace_document(lineage, query)
    except UnknownDocument as error:
        if not is_quoted(query):
            raise
        print_quote(lineage, query, limit=limit, places=places, as_json=as_json, unknown=error)
        return
    if as_json:
        print_json(_entry(lineage, query, answers, untraced))
        return
    console = terminal()
    for answer in answers:
        _print_answer(console, lineage, answer)
    _print_untraced(console, untraced)


def is_quoted(query: str) -> bool:
    """Return whether what names no document is quoted text: it has blanks, or not only ASCII."""
    return not query.isascii() or any(letter.isspace() for letter in query)


def print_quote(
    lineage: Lineage,
    quote: str,
    *,
    limit: int,
    places: int,
    as_json: bool,
    unknown: UnknownDocument,
) -> None:
    """Print the documents that hold a quote, and what saw the first `limit` of them.

    Raises:
        ConfigError: it is too short, or no document holds it.
        InputError: tokens cannot be searched, or what saw it cannot be computed.
    """

    def say(text: str) -> None:
        print(f"olmo: {text}", file=sys.stderr)

    def shown(what: str) -> AbstractContextManager[Callable[[int, int], None]]:
        return counted(what, "tokens")

    try:
        answer = trace_quote(lineage, quote, limit=limit, most=places, shown=shown, say=say)
    except TooShort as error:
        raise ConfigError(f"{unknown}; nor is it {error}") from None
    if as_json:
        print_json(quote_entry(lineage, quote, answer))
        return
    console = terminal()
    least = "at least " if answer.unread else ""
    times = "once" if answer.places == 1 else f"{answer.places:,} times"
    some = f"{answer.documents:,} documents" if answer.documents != 1 else "1 document"
    first = f"; of these the first {limit:,}" if answer.documents > limit else ""
    console.print(f"Word for word in {least}{some}, {least}{times}{first}:")
    if answer.unread:
        console.print(
            f"The search ended there: {answer.unread:,} more places of the index may hold it. "
            f"--places {answer.indexed} looks at all.",
            style="yellow",
        )
    for each in answer.answers:
        _print_answer(console, lineage, each)
    _print_untraced(console, answer.untraced)


def quote_entry(lineage: Lineage, quote: str, answer: QuoteAnswer) -> dict[str, Any]:
    """Return what the command prints of a quote as JSON."""
    entry = _entry(lineage, quote, answer.answers, answer.untraced)
    for document in entry["documents"]:
        for place in document["places"]:
            ranges = answer.quoted.get((place["file"], place["file_tokens"][0]), [])
            place["quoted"] = [[*each] for each in ranges]
    counts = {name: getattr(answer, name) for name in ("documents", "places", "unread")}
    return {**entry, "quote": counts}


def _entry(
    lineage: Lineage, query: str, answers: Sequence[DocumentAnswer], untraced: Sequence[Untraced]
) -> dict[str, Any]:
    return {
        "recipe": lineage.graph.recipe.name,
        "query": query,
        "documents": [document_entry(lineage, answer) for answer in answers],
        "untraced": [{"path": str(each.run.path), "why": each.why} for each in untraced],
    }


def document_entry(lineage: Lineage, answer: DocumentAnswer) -> dict[str, Any]:
    """Return what the command prints of a document as JSON."""
    return {
        "id": answer.id,
        "places": [_place(document) for document in answer.documents],
        "mixes": [asdict(each) for each in answer.mixes],
        "runs": [_run_entry(lineage, seen) for seen in answer.runs],
        "models": [_model_entry(model, exposures) for model, exposures in answer.models],
        "left_out": [
            {
                "asset": each.document.asset,
                "reason": each.document.reason,
                "source": each.document.source,
                "path": each.document.src,
                "line": each.document.loc,
                "url": each.document.url,
                "characters": each.document.characters,
                "sha1": each.document.sha1.hex(),
                "index": str(each.index),
            }
            for each in answer.left_out
        ],
    }


def _place(document: IndexedDocument) -> dict[str, Any]:
    return {
        "source": document.source,
        "path": document.src,
        "line": document.loc,
        "url": document.url,
        "file": document.file,
        "file_tokens": [document.start, document.end],
        "characters": document.characters,
        "sha1": None if document.sha1 is None else document.sha1.hex(),
    }


def _run_entry(lineage: Lineage, seen: DocumentInRun) -> dict[str, Any]:
    run, first = seen.run, seen.first_checkpoint
    return {
        "run": run.name,
        "version": run.folder.path.name,
        "path": str(run.folder.path),
        "finished": run.finished,
        "last_step": run.last_step,
        "mix": lineage.mix_of(run.folder),
        "document_tokens": seen.tokens,
        "mix_ranges": seen.ranges,
        "mix_tokens": seen.mix_tokens,
        "tail_tokens": seen.tail_tokens,
        "read_tokens": sum(visit.tokens for visit in seen.visits),
        "trained_tokens": seen.trained_tokens(),
        "times": round(seen.trained_tokens() / seen.tokens, 4),
        "first_checkpoint": None if first is None else f"{run.name}@{first.name}",
        "steps": [_visit(visit) for visit in seen.visits],
    }


def _visit(visit: Visit) -> dict[str, Any]:
    return {
        "step": visit.step,
        "epoch": visit.epoch,
        "instance": visit.instance,
        "rank": visit.rank,
        "window": visit.window,
        "tokens": [visit.start, visit.stop],
        "masked": visit.masked,
        "skipped": visit.skipped,
    }


def _model_entry(model: Model, exposures: dict[str, Exposure]) -> dict[str, Any]:
    return {
        "model": model.name,
        "version": model.run.path.name,
        "revisions": [*model.revisions],
        "seen": any(each.tokens for each in exposures.values()),
        "ingredients": [
            {
                "run": each.label,
                "weight": each.weight,
                "trained_tokens": exposures[each.label].tokens,
                "times": round(exposures[each.label].times, 4),
                "unknown": each.unknown,
            }
            for each in model.ingredients
            if each.label in exposures
        ],
    }


def _print_answer(console: Console, lineage: Lineage, answer: DocumentAnswer) -> None:
    console.print(plain_line(answer.id), style="bold")
    for document in answer.documents:
        size = f"{document.end - document.start:,} tokens"
        size += "" if document.characters is None else f", {document.characters:,} characters"
        where = f"{document.src}:{document.loc}"
        line = f"  {document.source}: {size}; {where} {document.url or ''}".rstrip()
        console.print(plain_line(line))
    for each in answer.left_out:
        document = each.document
        console.print(
            plain_line(
                f"  left out by {document.asset}: {document.reason} "
                f"({document.src}:{document.loc}; documents/{each.index.name})"
            )
        )
    rows = [[each.mix, str(each.ranges), f"{each.tokens:,}"] for each in answer.mixes]
    if answer.documents:
        columns = ("mix", "ranges", "tokens of it")
        console.print(table(columns, rows, right=columns[1:], title="Mixes"))
    if not answer.runs:
        if answer.documents:
            console.print("No training run of the recipe reads the tokens that it is in.")
        return
    columns = ("run", "mix", "in a pass", "in no window", "read", "trained on", "first checkpoint")
    rows = [_run_row(lineage, seen) for seen in answer.runs]
    console.print(table(columns, rows, right=columns[2:6], title="Runs"))
    columns = ("model", "trained on it", "revisions")
    rows = [_model_row(model, exposures) for model, exposures in answer.models]
    console.print(table(columns, rows, title="Models"))
    visits = [(seen, visit) for seen in answer.runs for visit in seen.visits]
    columns = ("run", "step", "epoch", "instance", "rank", "tokens", "")
    rows = [_visit_row(seen, visit) for seen, visit in visits[:SHOWN_VISITS]]
    if rows:
        console.print(table(columns, rows, right=columns[1:6], title="Steps"))
    if len(visits) > SHOWN_VISITS:
        console.print(f"… and {len(visits) - SHOWN_VISITS:,} more; --json has all")


def _run_row(lineage: Lineage, seen: DocumentInRun) -> list[str]:
    run, first = seen.run, seen.first_checkpoint
    return [
        run.label + ("" if run.finished else f" (at step {run.last_step} so far)"),
        lineage.mix_of(run.folder) + (f" × {seen.ranges}" if seen.ranges > 1 else ""),
        f"{seen.mix_tokens:,}",
        f"{seen.tail_tokens:,}",
        f"{sum(visit.tokens for visit in seen.visits):,}",
        f"{seen.trained_tokens():,} ({seen.trained_tokens() / seen.tokens:.3g} ×)",
        "" if first is None else f"{run.name}@{first.name}",
    ]


def _model_row(model: Model, exposures: dict[str, Exposure]) -> list[str]:
    said = ", ".join(
        ("" if each.unknown is None else "at least ") + _times(exposures[each.label])
        for each in model.ingredients
        if each.label in exposures
    )
    return [f"{model.name}/{model.run.path.name}", said, ", ".join(model.revisions)]


def _times(exposure: Exposure) -> str:
    return f"{exposure.times:.3g} ×" if exposure.tokens else "0 ×"


def _visit_row(seen: DocumentInRun, visit: Visit) -> list[str]:
    marks = ["masked"] if visit.masked else []
    marks += ["skipped"] if visit.skipped else []
    marks += ["not logged"] if visit.skipped is None else []
    return [
        seen.run.label,
        f"{visit.step:,}",
        str(visit.epoch),
        str(visit.instance),
        "" if visit.rank is None else str(visit.rank),
        f"{visit.start:,}–{visit.stop:,}",
        ", ".join(marks),
    ]


def _print_untraced(console: Console, untraced: Sequence[Untraced]) -> None:
    for each in untraced:
        console.print(plain(f"Not traced: {each.run.path}: {each.why}"), style="yellow")
