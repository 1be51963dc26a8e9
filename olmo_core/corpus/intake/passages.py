"""What a reader yields of a file: its texts, what it refuses, and what it leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmo_core.corpus.document import UNDATED
from olmo_core.errors import InputError

Span = Sequence[Any]  # [start, end, score], over the characters of a text
Attributes = Mapping[str, Sequence[Span]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """One text of a unit: the last part of its id ("" when the unit is the text)."""

    name: str
    text: str
    line: int | None = None  # of the file, where a document is a line or a row
    id_was: str = "text"  # or integer or missing
    added: str = UNDATED
    created: str = UNDATED
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    attributes: Attributes = field(default_factory=dict[str, list[Span]])  # made elsewhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A user's document that cannot be taken."""

    error: InputError
    place: Mapping[str, Any] = field(default_factory=dict[str, Any])  # line and content, of a row


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of a file that holds no text; counted."""

    reason: str  # with what is counted


class Unreadable(Exception):
    """An installed file that is not the text that its name promises; counted, not read."""
