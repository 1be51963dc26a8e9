"""The bytes of token ids: what a token file says as text, whatever way it was cut into tokens."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

_BLANK = "▁"  # that sentencepiece writes for a blank
_REPLACED = ("Replace", "Metaspace")  # decoders that turn it back


class TokenBytes:
    """Turn token ids into the UTF-8 bytes of their text, and texts into what tokens can hold.

    Each token stands for bytes of its own, so that the bytes of some tokens are those of the text
    wherever it was cut. Special tokens stand for their names.

    Args:
        path: `tokenizer.json`.

    Raises:
        InputError: its tokens are not bytes: decoding depends on their neighbours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        tokenizer = read_tokenizer(path)
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kinds = _kinds(content.get("decoder"))
        if "ByteLevel" in kinds:
            parts = _table(tokenizer, functools.partial(_by_letters, letters=_byte_level()))
        elif any(kind in kinds for kind in _REPLACED):
            falls_back = "ByteFallback" in kinds
            parts = _table(tokenizer, functools.partial(_by_pieces, falls_back=falls_back))
        else:
            raise InputError(
                f"{path}: decoder {', '.join(kinds) or 'null'}: expected one whose tokens are "
                "bytes of the text: ByteLevel, Metaspace, or Replace with ByteFallback"
            )
        self.longest = max(map(len, parts))
        self._lengths = np.array([len(part) for part in parts], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._bytes = np.frombuffer(b"".join(parts), dtype=np.uint8)
        self._normalizer = _normalizer(content.get("normalizer"))

    def decode(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes of these tokens, uint8 (n,), and where each begins, int64 (tokens + 1,).

        Raises:
            InputError: an id that no token of the tokenizer has.
        """
        highest = int(ids.max(initial=0))
        lengths = self._lengths[np.minimum(ids, len(self._lengths) - 1)]
        if highest >= len(self._lengths) or not lengths.all():
            raise InputError(
                f"{self._path}: has no token of an id found (up to {highest}): "
                "are the token files another tokenizer's?"
            )
        edges = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(lengths, out=edges[1:])
        places: Array = np.repeat(self._starts[ids] - edges[:-1], lengths)
        places += np.arange(int(edges[-1]))
        return self._bytes[places], edges

    def of_text(self, text: str) -> bytes:
        """Return the bytes that tokens hold where a document holds this text: normalised, UTF-8."""
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        return text.encode("utf-8", "surrogatepass")


def _kinds(decoder: Mapping[str, Any] | None) -> list[str]:
    """Return the types of a decoder and of all that it is a sequence of."""
    if decoder is None:
        return []
    parts: list[Mapping[str, Any]] = decoder.get("decoders", [])
    return [str(decoder["type"]), *(kind for part in parts for kind in _kinds(part))]


def _table(tokenizer: Tokenizer, bytes_of: Callable[[str], bytes]) -> list[bytes]:
    """Return the bytes of each id; none of an id that no token has."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    parts = [b""] * (max(vocabulary.values()) + 1)
    for text, number in vocabulary.items():
        parts[number] = bytes_of(text)
    return parts


def _byte_level() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    return letters | {chr(0x100 + number): byte for number, byte in enumerate(hidden)}


def _by_letters(text: str, letters: Mapping[str, int]) -> bytes:
    """Return a byte per letter; the text itself where it has others, as Hugging Face decodes it."""
    if all(letter in letters for letter in text):
        return bytes(letters[letter] for letter in text)
    return text.encode()


def _by_pieces(text: str, falls_back: bool) -> bytes:
    """Return the bytes of a piece of sentencepiece's."""
    if falls_back and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes.fromhex(text[3:5])
    return text.replace(_BLANK, " ").encode()


def _normalizer(content: Mapping[str, Any] | None) -> Any:
    """Return what normalises texts, without what the decoder takes back; None: nothing does."""
    kept = [part for part in _parts(content) if part["type"] not in ("Prepend", "Replace")]
    if not kept:
        return None
    empty: dict[str, Any] = {"type": "BPE", "vocab": {}, "merges": []}
    sequence = {"type": "Sequence", "normalizers": kept}
    return Tokenizer.from_str(
        json.dumps({"version": "1.0", "normalizer": sequence, "model": empty})
    ).normalizer


def _parts(content: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    if content["type"] != "Sequence":
        return [content]
    return [part for each in content["normalizers"] for part in _parts(each)]
