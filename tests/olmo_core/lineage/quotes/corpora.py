"""Real text in several languages as token files, by tokenizers of several kinds."""

import pydoc_data.topics
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from olmo_core.data.format import Header, header_path
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.files import sha256_file, write_json

EOS = "<|endoftext|>"
OTHERS = (
    "Füße, Œuvre, naïve – „Anführung“ und çédille; ¿Qué? ½ µm² ≠ 1 ℃. " * 3,
    "敏捷的棕色狐狸跳过了懒狗。我们在这里写一些中文，以便检查字节。" * 4,
    "🙂🙃👩‍👩‍👧‍👦🇩🇪 mixed with text 👍🏽 and more 🚀🚀🚀 " * 4,
    "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 4,
    "नमस्ते दुनिया, यह एक परीक्षण वाक्य है। " * 5,
    " " * 700 + "x" + "-" * 500 + "\n\t" * 300,
    "ab" * 400 + "abc" * 200 + "\r\n\r\n" * 60,
    "\x00\x1b[31mred\x1b[0m\x07 controls \x7f " * 8,
    f"what a document says of {EOS} in its own words, and of nothing else at all " * 2,
    "short",
)


def documents(kind: str = "") -> list[str]:
    """Return real documents, and some that tokens are cut in odd places of.

    Where sentencepiece's tokenizers find a special token, they add a blank to the text itself.
    """
    texts = [*pydoc_data.topics.topics.values(), *OTHERS]
    return [text for text in texts if kind != "pieces" or EOS not in text]


def byte_level(normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _trained(
        tokenizer,
        trainers.BpeTrainer(vocab_size=2000, special_tokens=[EOS], initial_alphabet=alphabet),
    )


def whole_words() -> Tokenizer:
    """Byte-level, and nothing is split before: tokens reach over blanks and lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_tokens(["  ", "    ", " " * 16])
    return _trained(
        tokenizer,
        trainers.BpeTrainer(vocab_size=1500, special_tokens=[EOS], initial_alphabet=alphabet),
    )


def pieces() -> Tokenizer:
    """As sentencepiece has them: a blank is ▁, what has no piece falls back to bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", EOS, *(f"<0x{byte:02X}>" for byte in range(256))]
    return _trained(
        tokenizer,
        trainers.BpeTrainer(vocab_size=1500, special_tokens=special, limit_alphabet=80),
    )


KINDS = {
    "byte_level": byte_level,
    "nfc": lambda: byte_level(normalizers.NFC()),
    "whole_words": whole_words,
    "pieces": pieces,
}


def _trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    tokenizer.train_from_iterator([text[:2000] for text in documents()], trainer)
    return tokenizer


def write_tokens(folder: Path, tokenizer: Path, texts: Sequence[str], *, files: int = 2) -> None:
    """Write token files as the asset does: documents in order, EOS after each."""
    read = read_tokenizer(tokenizer)
    eos = read.token_to_id(EOS) or 0
    encoded = [[*each.ids, eos] for each in read.encode_batch(list(texts))]
    for number in range(files):
        part = encoded[number::files]
        ids = np.array([token for each in part for token in each], dtype="<u2")
        path = folder / "tokens" / "web" / f"part-0-{number:05d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        ids.tofile(path)
        header = Header(
            dtype="uint16",
            tokens=len(ids),
            documents=len(part),
            vocab_size=read.get_vocab_size(),
            tokenizer_sha256=sha256_file(tokenizer),
            eos_token_id=eos,
        )
        write_json(header_path(path), header.to_dict())


def planted(texts: Sequence[str], shortest: int, count: int, seed: int) -> list[bytes]:
    """Return parts of documents, from their starts, middles and ends; whole characters each."""
    rng = random.Random(seed)
    found: list[bytes] = []
    while len(found) < count:
        text = rng.choice(texts)
        length = rng.choice((shortest // 3, shortest, shortest + 1, 2 * shortest, 900))
        start = rng.choice((0, rng.randrange(len(text)), max(0, len(text) - length)))
        if len(quote := text[start : start + length].encode()) >= shortest:
            found.append(quote)
    return found
