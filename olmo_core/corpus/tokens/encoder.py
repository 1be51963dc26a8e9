"""Text to the ids that Hugging Face tokenizers' `encode` gives, by tiktoken where that is proven.

tiktoken is about five times as fast, but merges by the rank of the merged token, where Hugging
Face merges by the pair that was trained. `fast_encoding` proves that both agree for a tokenizer,
or says why not; what is not covered by the proof goes through Hugging Face.
"""

import itertools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from tokenizers import Regex, Tokenizer, normalizers

# What `ByteLevel` splits by (tokenizers, byte_level.rs; first in GPT-2's encoder.py).
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# GPT-4's (tiktoken's cl100k_base), which OLMo 2's and Llama 3's tokenizers have.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CLASSES = (r"\p{L}", r"\p{N}", r"\s")  # all that both ask of a character that is not ASCII
_NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}  # bytes that UTF-8 does not have


class NotProven(Exception):
    """Why tiktoken may differ from Hugging Face for a tokenizer."""


class Encoder:
    """Encodes texts with the tokenizer of one `tokenizer.json`.

    `reason` is empty where tiktoken is used, else says why it is not.
    """

    def __init__(self, path: Path, *, escape: bool = False) -> None:
        """Read the file; `escape`: a text that spells a special token does not get its id."""
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.encode_special_tokens = escape
        # A file may leave out what it has none of.
        content: dict[str, Any] = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None}
        content |= json.loads(path.read_text(encoding="utf-8"))
        added: list[dict[str, Any]] = content["added_tokens"]
        blanks = _runs_of_blanks(content)
        hard = [token for token in added if _hard(token) or (escape and token["special"])]
        self._hard = [str(token["content"]) for token in hard]
        easy = [token for token in added if token not in hard and token["content"] not in blanks]
        self._before = _Added([token for token in easy if not token["normalized"]])
        self._after = _Added([token for token in easy if token["normalized"]])
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
                yield from self._after.split(self.tokenizer.normalizer.normalize_str(before))

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


def _hard(token: Mapping[str, Any]) -> bool:
    """Return whether an added token has rules of its own for what stands around it."""
    return any(token[option] for option in ("single_word", "lstrip", "rstrip"))


def _runs_of_blanks(content: Mapping[str, Any]) -> dict[str, int]:
    """Return the added tokens of 2, 3, … n blanks, and their ids, where an expression finds them.

    That is faster than to cut the text: OLMo 1's tokenizer has them, and code is full of them.
    """
    begin_blank = {
        str(token["content"]): int(token["id"])
        for token in content["added_tokens"]
        if token["normalized"] and not _hard(token) and token["content"].startswith(" ")
    }
    runs = {" " * n for n in range(2, len(begin_blank) + 2)}
    found = set(begin_blank) == runs and _is_byte_level(content["pre_tokenizer"], use_regex=True)
    return begin_blank if found else {}


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

    Added tokens that are runs of blanks are pieces of the expression. No two blanks stand side by
    side in any other piece, so the tokens of that text that merges would make are never made.

    Args:
        content: The parsed tokenizer.json.
        tokenizer: The same, loaded.

    Raises:
        NotProven: with the reason.
    """
    model = content["model"]
    expression = _expression(content)
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
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if used := set(missing) - _NEVER:
        raise NotProven(f"{len(used)} bytes are no tokens")
    if len(ranks) != 256 - len(missing) + len(products):
        raise NotProven("some tokens are neither bytes nor made by a merge")
    for token, number in vocabulary.items():
        if token not in added and [t.id for t in tokenizer.model.tokenize(token)] != [number]:
            raise NotProven(f"token {number} is not what its own text is encoded to")
    if blanks := _runs_of_blanks(content):
        expression = _with_blanks(len(blanks) + 1)
        ranks |= {run.encode(): number for run, number in blanks.items()}
    return tiktoken.Encoding(
        "corpus", pat_str=expression, mergeable_ranks=ranks, special_tokens={"\0": 1 << 31}
    )


def _with_blanks(longest: int) -> str:
    """Return ByteLevel's expression where each run of 2 … `longest` blanks is a piece first.

    Text ends before such a run, as far as Hugging Face is concerned: `\\s+` must not enter it, and
    `(?!\\S)` holds there as it does at an end.
    """
    whitespace = r"(?:[^\S ]| (?! ))+"
    words = SPLIT.removesuffix(r"|\s+(?!\S)|\s+")
    return rf" {{2,{longest}}}|{words}|{whitespace}(?!\S)|{whitespace}"


def _expression(content: dict[str, Any]) -> str:
    """Return what a tokenizer splits text by; refuse what the proof does not cover."""
    model: dict[str, Any] = content["model"]
    if model.get("type") != "BPE" or content["normalizer"] not in (None, {"type": "NFC"}):
        raise NotProven("not a plain BPE tokenizer")
    options = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    if on := [name for name in (*options, "byte_fallback", "ignore_merges") if model.get(name)]:
        raise NotProven(f"BPE options in use: {', '.join(on)}")
    if any(not unicodedata.is_normalized("NFC", t["content"]) for t in content["added_tokens"]):
        raise NotProven("an added token is not in NFC")
    split: dict[str, Any] = content["pre_tokenizer"] or {}
    if _is_byte_level(split, use_regex=True):
        return SPLIT
    parts: list[dict[str, Any]] = split.get("pretokenizers", [])
    if len(parts) == 2 and _is_byte_level(parts[1], use_regex=False):
        # Both expressions match every character, so nothing is between their matches.
        how = (parts[0].get("behavior"), parts[0].get("invert"))
        known = {("Removed", True), ("Isolated", False)}
        pattern = parts[0].get("pattern", {}).get("Regex")
        if parts[0]["type"] == "Split" and how in known and pattern in (SPLIT, CL100K):
            return pattern
    raise NotProven("the text is not split by ByteLevel's own expression, nor by GPT-4's")


def _is_byte_level(part: Mapping[str, Any] | None, *, use_regex: bool) -> bool:
    expected = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}
    return part is not None and all(part.get(key) == value for key, value in expected.items())


def byte_alphabet() -> dict[str, int]:
    """Map ByteLevel's printable character of each byte to the byte (GPT-2's encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + place): byte for place, byte in enumerate(others)}
