"""`olmo trace text`: what parts of a text a model was trained on, word for word."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from assets.lineage.runs import Lineage
from assets.lineage.trained_text import Span, TextAnswer, TrainedDocument, trace_text
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.quotes.find import TooShort
from pipelines.cli.terminal import plain, print_json, terminal

SHOWN_SPANS = 20
SHOWN_CHARACTERS = 300  # of a span
SHOWN_STEPS = 8  # of a document


def print_text(
    recipe: str, file: str, model: str | None, *, limit: int, places: int, as_json: bool
) -> None:
    """Print the longest parts of a text that weights were trained on.

    Args:
        recipe: Its name.
        file: Of the text; `-` is standard input.
        model: The weights; None: the recipe's soup.
        limit: Documents of a part.
        places: Places in the index that are looked at.
        as_json: Print JSON.

    Raises:
        ConfigError: no such recipe, weights, file or quotes index; what is damaged.
    """
    try:
        answer = trace_text(Lineage(recipe), _read(file), model, limit=limit, most=places)
    except TooShort as error:
        raise ConfigError(f"{file}: not {error}") from None
    except InputError as error:
        raise ConfigError(str(error)) from None
    if as_json:
        print_json(text_entry(recipe, answer))
        return
    console = terminal()
    covered, parts = _covered(answer), len(answer.spans)
    console.print(
        plain(
            f"{answer.weights.label}: {covered:,} of {len(answer.text):,} characters were "
            f"trained on word for word, in {parts:,} part{'s' * (parts != 1)}"
        )
    )
    for span in answer.spans[:SHOWN_SPANS]:
        _print_span(console, answer, span)
    if len(answer.spans) > SHOWN_SPANS:
        console.print(f"… and {len(answer.spans) - SHOWN_SPANS:,} more; --json has all")
    if answer.unread:
        console.print(
            f"Of very common text the first places were looked at; {answer.unread:,} were not, and "
            "longer parts may stand there: a higher --places looks at more.",
            style="yellow",
        )
    if answer.unchecked:
        console.print(
            f"{answer.unchecked:,} matches were not looked up in the steps: too many documents.",
            style="yellow",
        )


def text_entry(recipe: str, answer: TextAnswer) -> dict[str, Any]:
    """Return what the command prints as JSON."""
    return {
        "recipe": recipe,
        "weights": answer.weights.label,
        "trained": [
            {"run": each.run.label, "up_to": each.up_to} for each in answer.weights.trained
        ],
        "characters": len(answer.text),
        "covered_characters": _covered(answer),
        "unread": answer.unread,
        "unchecked": answer.unchecked,
        "spans": [
            {
                "text": span.text,
                "characters": [*_characters(answer, span)],
                "places": span.places,
                "unread": span.unread,
                "documents": [_document_entry(each) for each in span.documents],
            }
            for span in answer.spans
        ],
    }


def _document_entry(each: TrainedDocument) -> dict[str, Any]:
    document = each.document
    return {
        "id": document.id,
        "source": document.source,
        "url": document.url,
        "path": document.src,
        "line": document.loc,
        "tokens": [each.start, each.stop],
        "document_tokens": document.end - document.start,
        "steps": [
            {
                "run": run.label,
                "step": visit.step,
                "epoch": visit.epoch,
                "instance": visit.instance,
                "tokens": [visit.start, visit.stop],
            }
            for run, visit in each.visits
        ],
    }


def _print_span(console: Console, answer: TextAnswer, span: Span) -> None:
    first, last = _characters(answer, span)
    places = "one place" if span.places == 1 else f"{span.places:,} places"
    least = "at least " if span.unread else ""
    console.print(
        f"{last - first:,} characters ({first:,}–{last:,}), in {least}{places} of the token files",
        style="bold",
    )
    half = SHOWN_CHARACTERS // 2
    cut = len(span.text) > SHOWN_CHARACTERS
    console.print(plain(f"{span.text[:half]} … {span.text[-half:]}" if cut else span.text))
    for each in span.documents:
        document = each.document
        console.print(plain(f"  {document.id} {document.url or ''}".rstrip()))
        steps = [f"{run.label} step {visit.step:,}" for run, visit in each.visits]
        more = f", … {len(steps) - SHOWN_STEPS:,} more" if len(steps) > SHOWN_STEPS else ""
        console.print(plain(f"    {', '.join(steps[:SHOWN_STEPS])}{more}"))


def _characters(answer: TextAnswer, span: Span) -> tuple[int, int]:
    """Return which characters of the text a span is: [first, one after the last)."""
    first = len(answer.text.encode()[: span.first].decode("utf-8", "ignore"))
    return first, first + len(span.text)


def _covered(answer: TextAnswer) -> int:
    """Return how many characters of the text lie in any span."""
    return len({place for span in answer.spans for place in range(*_characters(answer, span))})


def _read(file: str) -> str:
    """Return the text of a file, or of standard input.

    Raises:
        ConfigError: there is no such file, or it is not UTF-8.
    """
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start}: not UTF-8") from None
