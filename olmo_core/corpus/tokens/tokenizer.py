"""Asset `tokenizer`: a byte-level BPE tokenizer trained on the filtered corpus, or a released one.

A corpus of token files alone has no text, and needs a released one.

After it runs, the folder loads offline with transformers' `AutoTokenizer`, has EOS, and PAD and
BOS where the section names them. One that was trained gives every text back unchanged, and the same
corpus the same bytes.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.config.paths import expanded
from olmo_core.corpus.document import source_names
from olmo_core.corpus.tokens.learnt import choose_texts
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, sha256_file, write_atomic, write_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

TOKENIZER = "tokenizer.json"
LEARNT_CHARACTERS = 1024  # of one pre-token: learning takes time by the square of its length
# Runs that may hold a longer one: four control characters are blanks to Python alone.
_LONG = re.compile(
    rf"\s{{{LEARNT_CHARACTERS}}}|(?<![\S\x1c-\x1f])[\S\x1c-\x1f]{{{LEARNT_CHARACTERS}}}"
)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Bounded):
    """Section `tokenizer` of corpus.yaml.

    Raises:
        ValueError: a vocabulary that cannot hold all bytes, an empty name, one for two tokens, or a
            number out of range.
    """

    vocab_size: int  # the highest id and one: special tokens and holes included
    # A released tokenizer.json, in place of training; ~ and ${VARIABLES} are expanded.
    file: str = ""
    # of text that the merges are learnt from
    max_bytes_per_source: int = at_least(1, default=4_000_000)
    # a pair seen less often is not merged
    min_frequency: int = at_least(0, default=2, at_most=(1 << 64) - 1)
    eos_token: str = "<|endoftext|>"
    pad_token: str | None = "<|padding|>"  # null: none
    bos_token: str | None = None  # where one is named, every document begins with it

    def __post_init__(self) -> None:
        names = self.special_tokens.values()
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(f"{', '.join(self.special_tokens)}: expected different names")
        least = 256 + len(names)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size}: expected at least {least} (256 bytes, "
                f"{', '.join(self.special_tokens)})"
            )
        super().__post_init__()

    @property
    def special_tokens(self) -> dict[str, str]:
        """Return the tokens that there are, by their keys."""
        names = {
            "eos_token": self.eos_token,
            "pad_token": self.pad_token,
            "bos_token": self.bos_token,
        }
        return {key: name for key, name in names.items() if name is not None}


def make(config: TokenizerConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Train on a sample of every source and save in Hugging Face's layout."""
    # Counting is spread over threads; the result does not depend on how many.
    os.environ["RAYON_NUM_THREADS"] = str(job.processes)
    names: list[str] = []
    texts: Mapping[str, list[str]] = {}
    with job.timed("choose texts"):
        if "filtered" in inputs:
            documents = inputs["filtered"] / "documents"
            names = source_names(documents)
            reads = str(read_json(inputs["filtered"] / "result.json")["digest"])
            most = config.max_bytes_per_source
            texts = choose_texts(documents, names, job, reads=reads, max_bytes=most)
        job.progress(1, 3, unit="stages", message="texts chosen")
    with job.timed("read" if config.file else "train"):
        shortened = 0
        if config.file:
            tokenizer = read_released(config)
        else:
            learnt, shortened = shorten([text for name in names for text in texts[name]])
            tokenizer = train(learnt, config)
        job.progress(2, 3, unit="stages", message="read" if config.file else "trained")
    with job.timed("save and check"):
        save(tokenizer, job.folder, config)
        # a released one may normalise what it reads
        table = [_row(name, texts[name], tokenizer, exact=not config.file) for name in names]
    total_bytes, tokens = (sum(row[key] for row in table) for key in ("text_bytes", "tokens"))
    return Report(
        numbers={
            "vocab_size": config.vocab_size,
            "trained_on_documents": 0 if config.file else sum(row["documents"] for row in table),
            "trained_on_bytes": 0 if config.file else total_bytes,
            "shortened_pretokens": shortened,
            **({"bytes_per_token": round(total_bytes / tokens, 3)} if tokens else {}),
        },
        tables={"sources": table},
        samples={"encodings": [_show(texts[name], tokenizer) for name in names]},
        data={
            "vocab_size": config.vocab_size,
            "eos_token_id": tokenizer.token_to_id(config.eos_token),
            "pad_token_id": config.pad_token and tokenizer.token_to_id(config.pad_token),
            "bos_token_id": config.bos_token and tokenizer.token_to_id(config.bos_token),
            "sha256": sha256_file(job.folder / TOKENIZER),
        },
    )


def tokenizer_identity(config: TokenizerConfig) -> dict[str, Any]:
    """Return the digest of a released tokenizer's file, part of the fingerprint; else nothing.

    Raises:
        ConfigError: there is no such file.
    """
    return {"file_sha256": sha256_file(_released_path(config))} if config.file else {}


def read_released(config: TokenizerConfig) -> Tokenizer:
    """Read the file that the section names.

    Raises:
        ConfigError: there is no such file.
        InputError: it is no tokenizer, chooses ids at random, has another highest id, or lacks a
            special token.
    """
    path = _released_path(config)
    try:
        tokenizer = read_tokenizer(path)
    except Exception as error:  # tokenizers raises nothing more exact
        raise InputError(f"{path}: not a tokenizer.json: {error}") from None
    if dropout := getattr(tokenizer.model, "dropout", None):
        raise InputError(
            f"{path}: model.dropout is {round(dropout, 6)}: a text would get other ids each time; "
            "expected null"
        )
    # Ids may have holes, and a model needs a row for the highest one.
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if size != config.vocab_size:
        raise InputError(
            f"{path}: {tokenizer.get_vocab_size()} entries with ids up to {size - 1}; the "
            f"section's vocab_size is {config.vocab_size}, expected {size}"
        )
    for key, token in config.special_tokens.items():
        if tokenizer.token_to_id(token) is None:
            raise InputError(
                f"{path}: no entry {token!r}, which {key} names; expected one of its own "
                "(pad_token may be null)"
            )
    return tokenizer


def _released_path(config: TokenizerConfig) -> Path:
    path, found = expanded(config.file)
    if not path.is_file():
        raise ConfigError(
            f"tokenizer: file {config.file!r} ({found}): expected a tokenizer.json; ~ and "
            "${VARIABLES} are expanded"
        )
    return path


def shorten(texts: Sequence[str]) -> tuple[list[str], int]:
    """Return the texts with at most `LEARNT_CHARACTERS` of a pre-token; how many were longer."""
    lengths: list[int] = []

    def parts(text: str) -> Iterator[str]:
        for _, (start, end) in _split().pre_tokenize_str(text):
            if end - start > LEARNT_CHARACTERS:
                lengths.append(end - start)
            yield text[start : min(end, start + LEARNT_CHARACTERS)]

    return ["".join(parts(text)) if _LONG.search(text) else text for text in texts], len(lengths)


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def train(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """Train a byte-level BPE tokenizer; ids are the special tokens, the 256 bytes, then the merges.

    Raises:
        InputError: the texts have too few pairs for the vocabulary.
        BaseException: whatever the library raises while it learns.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _split()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(config.special_tokens.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raised: list[BaseException] = []

    def learn() -> None:
        try:
            tokenizer.train_from_iterator(iter(texts), trainer)
        except BaseException as error:  # a panic of Rust's is no Exception
            raised.append(error)

    # In a thread: only Python's own code hears of SIGTERM, and this is Rust's for minutes.
    learning = threading.Thread(target=learn, daemon=True)
    learning.start()
    learning.join()
    if raised:
        raise raised[0]
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise InputError(
            f"tokenizer: the corpus gives {tokenizer.get_vocab_size()} entries, vocab_size is "
            f"{config.vocab_size}; lower it or take more text"
        )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, config: TokenizerConfig) -> None:
    """Write the three files that `AutoTokenizer` reads."""
    special = config.special_tokens
    if config.file:  # its own bytes: their digest is known outside
        write_atomic(folder / TOKENIZER, _released_path(config).read_bytes())
    else:
        write_atomic(folder / TOKENIZER, tokenizer.to_str(pretty=True))
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def _row(name: str, texts: Sequence[str], tokenizer: Tokenizer, *, exact: bool) -> dict[str, Any]:
    """Return a source's figures over some of its texts; `exact`: each must come back unchanged."""
    some = texts[:: max(1, len(texts) // 100)]
    tokens = 0
    for text, encoding in zip(some, tokenizer.encode_batch(some), strict=True):
        tokens += len(encoding.ids)
        if exact and tokenizer.decode(encoding.ids, skip_special_tokens=False) != text:
            raise RuntimeError(f"source {name}: a text is not what its tokens decode to: {text!r}")
    measured = sum(len(text.encode()) for text in some)
    total = sum(len(text.encode()) for text in texts)
    bytes_per_token = measured / tokens
    return {
        "source": name,
        "documents": len(texts),
        "text_bytes": total,
        "tokens": round(total / bytes_per_token),
        "bytes_per_token": round(bytes_per_token, 3),
    }


def _show(texts: Sequence[str], tokenizer: Tokenizer) -> str:
    """Return the beginning of a text, with a bar between its tokens."""
    ids = tokenizer.encode(texts[0][:200], add_special_tokens=False).ids
    return "|".join(tokenizer.decode([number]) for number in ids)


if __name__ == "__main__":
    run_job(TokenizerConfig, make)
