"""Text to the ids that Hugging Face tokenizers' `encode` gives, by tiktoken where that is proven.

tiktoken is about five times as fast, but merges by the rank of the merged token, where Hugging
Face merges by the pair that was trained. `fast_encoding` proves that both agree for a tokenizer,
or says why not; what is not covered by the proof goes through Hugging Face.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from tokenizers import Regex, Tokenizer, normalizers

# What `ByteLevel` splits by (tokenizers, byte_level.rs; first in GPT-2's encoder.py).
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CLASSES = (r"\p{L}", r"\p{N}", r"\s")  # all that SPLIT asks of a character that is not ASCII


class NotProven(Exception):
    """Why tiktoken may differ from Hugging Face for a tokenizer."""


class Encoder:
    """Encodes texts with the tokenizer of one `tokenizer.json`.

    `reason` is empty where tiktoken is used, else says why it is not.
    """

    def __init__(self, path: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(path))
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._added = [str(token["content"]) for token in content["added_tokens"]]
        self._fast: tiktoken.Encoding | None = None
        self.reason = ""
        try:
            self._fast = fast_encoding(content, self.tokenizer)
        except NotProven as reason:
            self.reason = str(reason)
        self._classes = [_Class(pattern) for pattern in _CLASSES]
        self._proven: set[str] = set()  # characters that both engines put into the same classes

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text, uint32 (n,), without special tokens added."""
        engines = [self._fast if self._fast and self._covered(text) else None for text in texts]
        slow = [text for text, fast in zip(texts, engines, strict=True) if fast is None]
        encoded = iter(self.tokenizer.encode_batch_fast(slow, add_special_tokens=False))
        return [
            fast.encode_to_numpy(text, disallowed_special=())
            if fast is not None
            else np.asarray(next(encoded).ids, dtype=np.uint32)
            for text, fast in zip(texts, engines, strict=True)
        ]

    def exact(self, text: str) -> list[int]:
        """Return the ids by Hugging Face alone: the truth that `encode` must equal."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _covered(self, text: str) -> bool:
        # Hugging Face finds added tokens in the text itself, `<|endoftext|>` among them.
        if any(token in text for token in self._added):
            return False
        fresh = set(text) - self._proven
        if fresh:
            known = "".join(sorted(fresh))
            self._proven |= fresh.difference(*(one.disputed(known) for one in self._classes))
            return fresh <= self._proven
        return True


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


def fast_encoding(content: dict[str, Any], tokenizer: Tokenizer) -> tiktoken.Encoding:
    """Return a tiktoken encoding proven to give the ids of a byte-level BPE tokenizer.

    The proof. Ids rise with the merges, so both merge in the same order, leftmost first. They can
    differ only where tokens x, y stand side by side, x + y is a token t, and (x, y) is no merge.
    What happens between the outer edges of x and y does not depend on what lies beyond them, so
    then t's own text, alone, would also come to [x, y] and stop. Every token's text comes to the
    token alone, so that does not happen.

    Args:
        content: The parsed tokenizer.json.
        tokenizer: The same, loaded.

    Raises:
        NotProven: with the reason.
    """
    model = content["model"]
    _check_parts(content)
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    vocabulary: dict[str, int] = model["vocab"]
    products = [vocabulary[left + right] for left, right in merges]
    if any(one >= other for one, other in itertools.pairwise(products)):
        raise NotProven("token ids do not rise with the merges")
    alphabet = byte_alphabet()
    added = {token["content"] for token in content["added_tokens"]}
    ranks = {
        bytes(alphabet[character] for character in token): number
        for token, number in vocabulary.items()
        if token not in added
    }
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise NotProven(f"{len(missing)} bytes are no tokens")
    if len(ranks) != 256 + len(products):
        raise NotProven("some tokens are neither bytes nor made by a merge")
    for token, number in vocabulary.items():
        if token not in added and [t.id for t in tokenizer.model.tokenize(token)] != [number]:
            raise NotProven(f"token {number} is not what its own text is encoded to")
    return tiktoken.Encoding(
        "corpus", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={"\0": max(products) + 1}
    )


def _check_parts(content: dict[str, Any]) -> None:
    """Refuse what the proof does not cover: anything but the plain byte-level pipeline."""
    model: dict[str, Any] = content["model"]
    split: dict[str, Any] = content["pre_tokenizer"] or {}
    if model["type"] != "BPE" or content["normalizer"] is not None:
        raise NotProven("not a plain BPE tokenizer")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    if any(split.get(key) != value for key, value in byte_level.items()):
        raise NotProven("the text is not split by ByteLevel's own expression")
    options = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    if on := [name for name in (*options, "byte_fallback", "ignore_merges") if model.get(name)]:
        raise NotProven(f"BPE options in use: {', '.join(on)}")


def byte_alphabet() -> dict[str, int]:
    """Map ByteLevel's printable character of each byte to the byte (GPT-2's encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + place): byte for place, byte in enumerate(others)}
