"""The text of a document, and of some of its tokens, as their tokenizer decodes it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from olmo_core.data.document_index import DocumentSpan
from olmo_core.data.format import read_tokens
from olmo_core.data.instances import Instances
from olmo_core.data.tokenizer import read_tokenizer

_SPLIT = 3  # characters at most that stand at the end of a text for one that is cut in two


@dataclass(frozen=True, kw_only=True)
class DecodedPart:
    """Some tokens of a document: their text, and which characters of the document's they are.

    A character that two tokens share belongs to the part that it ends in. The characters are None
    where the decoded document is not, to the letter, the text that was encoded.
    """

    text: str
    characters: tuple[int, int] | None


class DecodedDocument:
    """A document's tokens, decoded.

    Args:
        tokenizer: That its tokens were made with.
        data: What a run reads; the document is in one of its files.
        document: Where its tokens lie.
        sha1: Of the text that was encoded; None: not known.
    """

    def __init__(
        self, tokenizer: Tokenizer, data: Instances, document: DocumentSpan, sha1: bytes | None
    ) -> None:
        self._tokenizer = tokenizer
        ids = read_tokens(data.files[document.file], document.start, document.end).tolist()
        ends = data.manifest.eos_token_id
        last = len(ids) - (ends is not None and ids[-1:] == [ends])
        self._first, self._ids = 0, ids[:last]
        self._text = self._decode(self._ids)
        self._exact = _is(self._text, sha1)
        if not self._exact and _is(without := self._decode(ids[1:last]), sha1):  # a BOS
            self._first, self._ids, self._text, self._exact = 1, ids[1:last], without, True

    def part(self, start: int, stop: int) -> DecodedPart:
        """Return the document's tokens [start, stop), counted from its first."""
        before, until = (max(0, place - self._first) for place in (start, stop))
        characters = [self._complete(place) for place in (before, until)] if self._exact else []
        if len(characters) < 2 or None in characters:
            return DecodedPart(text=self._decode(self._ids[before:until]), characters=None)
        first, last = (place or 0 for place in characters)
        return DecodedPart(text=self._text[first:last], characters=(first, last))

    def _complete(self, tokens: int) -> int | None:
        """Return how many characters are complete after so many tokens; None: cannot be told."""
        if tokens >= len(self._ids):
            return len(self._text)
        decoded = self._decode(self._ids[:tokens])
        ends = (len(decoded) - cut for cut in range(min(_SPLIT, len(decoded)) + 1))
        return next((end for end in ends if self._text.startswith(decoded[:end])), None)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


class Decoder:
    """Decode documents of what a run reads.

    Args:
        tokenizer: `tokenizer.json` that its tokens were made with.
        data: What the run reads.
    """

    def __init__(self, tokenizer: Path, data: Instances) -> None:
        self._tokenizer = read_tokenizer(tokenizer)
        self._data = data

    def document(self, document: DocumentSpan, sha1: bytes | None) -> DecodedDocument:
        """Return a document; `sha1` is of the text that was encoded, None where not known."""
        return DecodedDocument(self._tokenizer, self._data, document, sha1)


def _is(text: str, sha1: bytes | None) -> bool:
    content = text.encode("utf-8", "surrogatepass")
    return hashlib.sha1(content, usedforsecurity=False).digest() == sha1
