"""The names of documents: pieces of one text, and documents that had one id in their files."""

import re
from dataclasses import dataclass

# As `raw` writes them: `#000` numbers the pieces of a text that was cut; `~` and a hash tell a
# document from earlier ones of its id.
_NAME = re.compile(r"(?P<text>.*?)(?P<piece>#\d{3,})?(?P<mark>~[0-9a-f]{16})?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Name:
    """An id, taken apart."""

    text: str  # of the text as it was found
    piece: str  # "#003" of a piece of it, else ""
    mark: str  # "~" and a hash, where an earlier document had the id, else ""

    @property
    def unmarked(self) -> str:
        """Return the id that the document had in its file, with the number of its piece."""
        return self.text + self.piece

    @property
    def asked_by(self) -> tuple[str, ...]:
        """Return the ids that name the document: its own, and those of more than it."""
        return (self.text + self.piece + self.mark, self.unmarked, self.text)


def name_of(document_id: str) -> Name:
    """Return an id taken apart."""
    found = _NAME.fullmatch(document_id)
    assert found is not None  # `.*` takes anything
    return Name(text=found["text"], piece=found["piece"] or "", mark=found["mark"] or "")
