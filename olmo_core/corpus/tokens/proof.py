"""For which tokenizers tiktoken gives the ids of Hugging Face tokenizers, with the proof."""

import itertools
import unicodedata
from collections.abc import Mapping
from typing import Any

import tiktoken
from tokenizers import Tokenizer, models

# What `ByteLevel` splits by (tokenizers, byte_level.rs; first in GPT-2's encoder.py).
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# GPT-4's (tiktoken's cl100k_base), which OLMo 2's and Llama 3's tokenizers have.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}  # bytes that UTF-8 does not have


class NotProven(Exception):
    """Why tiktoken may differ from Hugging Face for a tokenizer."""


def fast_encoding(content: dict[str, Any], tokenizer: Tokenizer) -> tiktoken.Encoding:
    """Return a tiktoken encoding proven to give the ids of a byte-level BPE tokenizer.

    The proof. Ids do not fall with the merges, of which a token may have several. Run both on one
    piece; so far they have made the same. What happens between the outer edges of neighbours x, y
    does not depend on what lies beyond them, so if x + y is a token t, then t's own text, alone,
    also comes to [x, y], by merges. It comes to two tokens at most once: all that t is ever made of
    is this pair. t's own text comes to t alone, so (x, y) is a merge. Both then choose among the
    same pairs, one for each token; the first merge is that of the lowest id, leftmost first.

    With `ignore_merges`, both look a whole piece up before they merge, and t may also be a token
    that no merges make: where its own text comes to three tokens or more, x and y as above never
    stand side by side. Where it comes to two, tiktoken would join them, and nothing is proven.

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
    if any(one > other for one, other in itertools.pairwise(products)):
        raise NotProven("token ids fall from one merge to the next")
    whole = bool(model.get("ignore_merges"))
    ranks = _ranks(content, whole=whole)
    # The model itself would not merge what it finds whole.
    merging: Any = (
        models.BPE(vocab=vocabulary, merges=[(left, right) for left, right in merges])
        if whole
        else tokenizer.model
    )
    added = {token["content"] for token in content["added_tokens"]}
    for token, number in vocabulary.items():
        if token in added or (own := [t.id for t in merging.tokenize(token)]) == [number]:
            continue
        if not whole or len(own) < 3:
            raise NotProven(f"token {number} is not what its own text is encoded to")
    if blanks := runs_of_blanks(content):
        expression = _with_blanks(len(blanks) + 1)
        ranks |= {run.encode(): number for run, number in blanks.items()}
    return tiktoken.Encoding(
        "corpus", pat_str=expression, mergeable_ranks=ranks, special_tokens={"\0": 1 << 31}
    )


def _ranks(content: dict[str, Any], *, whole: bool) -> dict[bytes, int]:
    """Return the ids of all tokens but the added ones, by their bytes.

    An added token never is a piece of text: it is cut out before, or Hugging Face encodes the text.
    `whole`: pieces are looked up as ByteLevel prints them, and what is not ASCII prints as others.
    """
    alphabet = byte_alphabet()
    added = {token["content"] for token in content["added_tokens"]}
    ranks: dict[bytes, int] = {}
    for token, number in content["model"]["vocab"].items():
        if not alphabet.keys() >= set(token):
            if token not in added:
                raise NotProven(f"token {number} is not spelled in ByteLevel's alphabet")
        elif token not in added:
            ranks[bytes(alphabet[character] for character in token)] = number
        elif whole and not token.isascii():
            raise NotProven(f"added token {number} is one of the model's, and not ASCII")
    if len(set(ranks.values())) < len(ranks):
        raise NotProven("two tokens have one id")
    if missing := {n for n in range(256) if bytes([n]) not in ranks} - _NEVER:
        raise NotProven(f"{len(missing)} bytes are no tokens")
    return ranks


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
    if on := [name for name in (*options, "byte_fallback") if model.get(name)]:
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


def hard(token: Mapping[str, Any]) -> bool:
    """Return whether an added token has rules of its own for what stands around it."""
    return any(token[option] for option in ("single_word", "lstrip", "rstrip"))


def runs_of_blanks(content: Mapping[str, Any]) -> dict[str, int]:
    """Return the added tokens of 2, 3, … n blanks, and their ids, where an expression finds them.

    That is faster than to cut the text: OLMo 1's tokenizer has them, and code is full of them.
    """
    begin_blank = {
        str(token["content"]): int(token["id"])
        for token in content["added_tokens"]
        if token["normalized"] and not hard(token) and token["content"].startswith(" ")
    }
    runs = {" " * n for n in range(2, len(begin_blank) + 2)}
    found = set(begin_blank) == runs and _is_byte_level(content["pre_tokenizer"], use_regex=True)
    return begin_blank if found else {}
