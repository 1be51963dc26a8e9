"""What a reader yields of a file: its texts, and what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.corpus.document import UNDATED
from olmo_core.errors import InputError


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A user's document that cannot be taken."""

    error: InputError
    place: Mapping[str, Any] = field(default_factory=dict[str, Any])  # line and content, of a row


class Unreadable(Exception):
    """An installed file that is not the text that its name promises; counted, not read."""
