"""Text to the ids that Hugging Face tokenizers' `encode` gives, by tiktoken where that is proven.

tiktoken is about five times as fast, but merges by the rank of the merged token, where Hugging
Face merges by the pair that was trained. `proof.py` shows that both agree for a tokenizer, or says
why not; what is not covered by the proof goes through Hugging Face.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from tokenizers import Regex, normalizers

from olmo_core.corpus.tokens.proof import NotProven, fast_encoding, hard, runs_of_blanks
from olmo_core.data.tokenizer import read_tokenizer

_CLASSES = (r"\p{L}", r"\p{N}", r"\s")  # all that both ask of a character that is not ASCII
_UNKNOWN = -1  # in place of an id: Hugging Face may find an added token here


class Encoder:
    """Encodes texts with the tokenizer of one `tokenizer.json`.

    `reason` is empty where tiktoken is used, else says why it is not.
    """

    def __init__(self, path: Path, *, escape: bool = False) -> None:
        """Read the file; `escape`: a text that spells a special token does not get its id."""
        self.tokenizer = read_tokenizer(path)
        self.tokenizer.encode_special_tokens = escape
        # A file may leave out what it has none of.
        content: dict[str, Any] = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None}
        content |= json.loads(path.read_text(encoding="utf-8"))
        # Hugging Face goes by the model's own id where the file gives another, and skips "".
        content["added_tokens"] = added = [
            token | {"id": self.tokenizer.token_to_id(token["content"])}
            for token in content["added_tokens"]
            if token["content"]
        ]
        blanks = runs_of_blanks(content)
        left = [token for token in added if hard(token) or (escape and token["special"])]
        self._hard = [str(token["content"]) for token in left]
        easy = [token for token in added if token not in left and token["content"] not in blanks]
        self._before = _Added([token for token in easy if not token["normalized"]])
        self._after = _Added([token for token in easy if token["normalized"]])
        # Of these, what NFC makes is not cut out.
        self._uncut = {*self._hard, *(t["content"] for t in easy if not t["normalized"])}
        self._fast: tiktoken.Encoding | None = None
        self.reason = ""
        try:
            self._fast = fast_encoding(content, self.tokenizer)
        except NotProven as reason:
            self.reason = str(reason)
        self._composes = content["normalizer"] is not None
        self._classes = [_Class(pattern) for pattern in _CLASSES]
        self._proven: set[str] = set()  # characters that both engines put into the same classes
        self._ascii = self._covered("".join(map(chr, range(128))))

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text, uint32 (n,), without special tokens added."""
        found = [self._by_tiktoken(text) for text in texts]
        slow = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        encoded = iter(self.tokenizer.encode_batch_fast(slow, add_special_tokens=False))
        return [
            ids if ids is not None else np.asarray(next(encoded).ids, dtype=np.uint32)
            for ids in found
        ]

    def exact(self, text: str) -> list[int]:
        """Return the ids by Hugging Face alone: the truth that `encode` must equal."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _by_tiktoken(self, text: str) -> np.ndarray | None:
        """Return the ids of a text; None where nothing proves that they are Hugging Face's."""
        if self._fast is None or any(token in text for token in self._hard):
            return None
        parts: list[np.ndarray] = []
        for piece, number in self._pieces(text):
            if number == _UNKNOWN:
                return None
            if number is not None:
                parts.append(np.asarray([number], dtype=np.uint32))
                continue
            if not (self._ascii and piece.isascii()) and not self._covered(piece):
                return None
            try:
                parts.append(self._fast.encode_to_numpy(piece, disallowed_special=()))
            except ValueError:  # its expressions run out of stack on a million blanks in a row
                return None
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _pieces(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield what lies between added tokens, in Hugging Face's order of steps, and their ids."""
        for before, number in self._before.split(text):
            if number is not None or not self._composes:
                yield from [(before, number)] if number is not None else self._after.split(before)
            elif unicodedata.is_normalized("NFC", before):
                yield from self._after.split(before)
            else:
                composed = self.tokenizer.normalizer.normalize_str(before)
                if any(token in composed for token in self._uncut):
                    yield composed, _UNKNOWN
                yield from self._after.split(composed)

    def _covered(self, text: str) -> bool:
        """Return whether both engines put each character of the text into the same classes."""
        fresh = set(text) - self._proven
        if fresh:
            known = "".join(sorted(fresh))
            self._proven |= fresh.difference(
                *(one.disputed(known) for one in self._classes), filter(_peculiar, fresh)
            )
            return fresh <= self._proven
        return True


def _peculiar(character: str) -> bool:
    """Return whether engines may differ on more than the class of a character.

    NFC is the same in every version of Unicode for the characters that both know, and what one
    does not know is inert to it (UAX #15, stability): so those that Python does not know are left
    out. So are those that are an ASCII letter but for their case: `(?i:'s)` may match "'\u017f".
    """
    return unicodedata.category(character) == "Cn" or (
        not character.isascii() and character.casefold().isascii()
    )


class _Added:
    """Added tokens that Hugging Face finds in a text before it is split: leftmost, longest."""

    def __init__(self, tokens: Sequence[Mapping[str, Any]]) -> None:
        self._ids = {str(token["content"]): int(token["id"]) for token in tokens}
        longest = sorted(self._ids, key=len, reverse=True)
        self._expression = re.compile(f"({'|'.join(map(re.escape, longest))})")

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield the pieces of a text in order, and the id of each that is an added token."""
        if not any(token in text for token in self._ids):
            yield text, None
            return
        for piece in self._expression.split(text):
            if piece:
                yield piece, self._ids.get(piece)


class _Class:
    """One character class as both regular expression engines see it (Unicode versions differ)."""

    def __init__(self, pattern: str) -> None:
        self._removed = normalizers.Replace(Regex(pattern), "")
        # Text that the pattern does not match has no tokens: the class alone is left.
        self._kept = tiktoken.Encoding(
            "class",
            pat_str=pattern,
            mergeable_ranks={bytes([byte]): byte for byte in range(256)},
            special_tokens={},
        )

    def disputed(self, characters: str) -> set[str]:
        """Return the characters that one engine counts in and the other does not."""
        outside = set(self._removed.normalize_str(characters))
        inside = set(bytes(self._kept.encode_ordinary(characters)).decode())
        return (set(characters) - outside) ^ inside
