import json
import random
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from olmo_core.corpus.document import read_folder
from olmo_core.corpus.tokens.encoder import Encoder, NotProven, byte_alphabet, fast_encoding


def test_the_fast_path_is_taken_and_equals_hugging_face(
    filtered: Path, tokenizer_run: Path
) -> None:
    encoder = Encoder(tokenizer_run / "tokenizer.json")
    assert encoder.reason == ""
    texts = [document.text for document in read_folder(filtered)]
    for text, ids in zip(texts, encoder.encode(texts), strict=True):
        assert ids.tolist() == encoder.exact(text)


def test_random_texts(tokenizer_run: Path) -> None:
    """Half from the tokenizer's own tokens, cut anywhere; half from all of Unicode."""
    encoder = Encoder(tokenizer_run / "tokenizer.json")
    rng = random.Random(0)
    tokens = [encoder.tokenizer.decode([number]) for number in range(2, 900)]
    everything = [chr(n) for n in range(sys.maxunicode) if not 0xD800 <= n < 0xE000]
    texts = ["".join(rng.choices(tokens, k=40))[rng.randrange(9) :] for _ in range(500)]
    texts += ["".join(rng.choices(everything, k=40)) for _ in range(300)]
    texts += ["".join(rng.choices("ab '\n\t1é ", k=60)) for _ in range(500)]
    for text, ids in zip(texts, encoder.encode(texts), strict=True):
        assert ids.tolist() == encoder.exact(text)


def test_characters_that_the_engines_class_differently_are_left_to_hugging_face(
    tokenizer_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tokenizer_run / "tokenizer.json")
    monkeypatch.setattr(encoder._classes[0], "disputed", lambda characters: {"é"})
    assert not encoder._covered("café")
    assert encoder._covered("cafe")
    assert encoder.encode(["café"])[0].tolist() == encoder.exact("café")


def test_byte_alphabet_is_byte_levels() -> None:
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("\n é~", "".join(map(chr, range(256)))):
        printed = "".join(piece for piece, _ in split.pre_tokenize_str(text))
        assert bytes(byte_alphabet()[character] for character in printed).decode() == text


def proof(merges: list[tuple[str, str]], **changes: object) -> None:
    """Try to prove a tokenizer of all bytes and these merges."""
    vocabulary = {token: number for number, token in enumerate(sorted(byte_alphabet()))}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    fast_encoding(json.loads(tokenizer.to_str()), tokenizer)


def test_what_cannot_be_proven_says_why() -> None:
    proof([("a", "b"), ("ab", "c")])
    # "abcd": Hugging Face stops at [a, bcd]; tiktoken would merge them to the known abcd.
    with pytest.raises(NotProven, match="not what its own text is encoded to"):
        proof([("b", "c"), ("a", "b"), ("c", "d"), ("ab", "cd"), ("bc", "d")])
    # The same token by two merges.
    with pytest.raises(NotProven, match="do not rise"):
        proof([("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")])
    with pytest.raises(NotProven, match="not a plain BPE"):
        proof([("a", "b")], normalizer=normalizers.NFC())
    with pytest.raises(NotProven, match="not split by ByteLevel"):
        proof([("a", "b")], pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))
    with pytest.raises(NotProven, match="dropout"):
        proof([("a", "b")], model=models.BPE(vocab={"a": 0}, merges=[], dropout=0.5))


def test_an_unproven_tokenizer_is_still_exact(tmp_path: Path, tokenizer_run: Path) -> None:
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFC"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    encoder = Encoder(tmp_path / "tokenizer.json")
    assert encoder.reason == "not a plain BPE tokenizer"
    assert encoder.encode(["cafe\u0301"])[0].tolist() == encoder.exact("café")
