"""From the passages of files to documents: named, cut where too long, bounded, counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmo_core.corpus.document import Document, utf8_bytes
from olmo_core.corpus.intake.exclusions import Exclusions
from olmo_core.corpus.intake.passages import Attributes, LeftOut, Passage, Span, Unreadable
from olmo_core.corpus.intake.readers import READERS
from olmo_core.corpus.intake.sources import SourceConfig, Unit


@dataclass(kw_only=True)
class Counts:
    """What reading has come upon beside documents."""

    files: int = 0  # that were opened
    ids: Counter[str] = field(default_factory=Counter[str])  # passages by what their id was
    left_out: Counter[str] = field(default_factory=Counter[str])  # files or texts by reason
    quarantined: int = 0
    # Documents by the kind of entry of `exclude_documents` that names them.
    excluded: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A document, and where it was read."""

    document: Document
    file: str
    line: int  # 0: the file is the text
    excluded: str = ""  # kind of the entry of `exclude_documents` that names it
    attributes: Attributes = field(default_factory=dict[str, list[Span]])


def documents_of(
    source: SourceConfig,
    unit: Unit,
    counts: Counts,
    exclusions: Exclusions,
    quarantine: Callable[[dict[str, Any]], None],
) -> Iterator[Placed]:
    """Yield the documents of a file in order, those that the source excludes among them.

    Args:
        source: Of the file.
        unit: The file.
        counts: Are added to.
        exclusions: Of the source; note what matches.
        quarantine: Is given a row of what is refused, under `bad_documents: quarantine`.

    Raises:
        InputError: a bad document, or a file that is not whole.
    """
    try:
        for found in READERS[source.reader].read(source, unit):
            if isinstance(found, Passage):
                counts.ids[found.id_was] += 1
                yield from _pieces(source, unit, found, counts, exclusions)
                continue
            if isinstance(found, LeftOut):
                counts.left_out[found.reason] += 1
                continue
            if source.bad_documents == "fail":
                raise found.error
            message = str(found.error).replace(str(unit.path), unit.name)
            quarantine({"file": unit.name, "error": message, **found.place})
            counts.quarantined += 1
    except Unreadable as reason:
        counts.left_out[f"{reason} (files)"] += 1


def _pieces(
    source: SourceConfig, unit: Unit, passage: Passage, counts: Counts, exclusions: Exclusions
) -> Iterator[Placed]:
    """Split, number and bound a text."""
    line = passage.line or 0
    name = passage.name or (f"{unit.name}:{line}" if line else unit.name)
    if not name.startswith(f"{source.name}/"):
        name = f"{source.name}/{name}"
    whole = exclusions.of_text(name, passage.text, passage.metadata)
    pieces = split_text(passage.text, source.max_document_bytes)
    attributes = [passage.attributes] if len(pieces) == 1 else cut(passage, pieces)
    for number, (piece, marks) in enumerate(zip(pieces, attributes, strict=True)):
        document = Document(
            id=name if len(pieces) == 1 else f"{name}#{number:03d}",
            text=piece,
            source=source.name,
            added=passage.added,
            created=passage.created,
            # What a user's document says of itself stays.
            metadata={**unit.origin, "file": unit.name, **passage.metadata},
        )
        excluded = exclusions.of_piece(document.id, piece, unit.name, line)
        if document.text_bytes < source.min_document_bytes or not piece.strip():
            counts.left_out["shorter than min_document_bytes (texts)"] += 1
        else:
            yield Placed(
                document=document,
                file=unit.name,
                line=line,
                excluded=whole or excluded,
                attributes=marks,
            )


def cut(passage: Passage, pieces: Sequence[str]) -> Iterator[Attributes]:
    """Yield the attributes of each piece of a text: the spans that lie in it, or their parts."""
    end = 0
    for piece in pieces:
        start = passage.text.index(piece, end)  # what separates pieces is in none of them
        end = start + len(piece)
        yield {
            name: [
                [max(span[0], start) - start, min(span[1], end) - start, *span[2:]]
                for span in spans
                if max(span[0], start) < min(span[1], end) or start <= span[0] == span[1] < end
            ]
            for name, spans in passage.attributes.items()
        }


def split_text(text: str, max_bytes: int) -> list[str]:
    """Cut a text into pieces of at most `max_bytes` UTF-8 bytes, at blank lines where possible.

    A paragraph that is too long is cut at its lines; a line that is too long, within.
    """
    if utf8_bytes(text) <= max_bytes:
        return [text]
    for separator in ("\n\n", "\n"):
        parts = text.split(separator)
        if len(parts) > 1:
            return _pack(parts, separator, max_bytes)
    halfway = len(text) // 2
    return split_text(text[:halfway], max_bytes) + split_text(text[halfway:], max_bytes)


def _pack(parts: Sequence[str], separator: str, max_bytes: int) -> list[str]:
    pieces: list[str] = []
    held: list[str] = []  # parts of the piece to come, `size` bytes with what separates them
    size = 0
    for part in parts:
        grown = size + len(separator) + utf8_bytes(part) if size else utf8_bytes(part)
        if grown <= max_bytes:
            held = held if size else []
            held.append(part)
            size = grown
            continue
        if size:
            pieces.append(separator.join(held))
        *whole, last = split_text(part, max_bytes)
        pieces += whole
        held, size = [last], utf8_bytes(last)
    return [*pieces, separator.join(held)] if size else pieces
