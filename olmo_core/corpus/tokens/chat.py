"""Chats to fine-tune on: `python -m olmo_core.corpus.tokens.chat CHAT.jsonl … --output=…`.

A line is `{"messages": [{"role": …, "content": …}, …]}`. A conversation becomes one row of
`sequence_length` tokens by OLMo's template, cut or padded; one without a label is left out. After
it runs, the folder holds `input_ids.npy` and `label_mask.npy` as `data.paths` and
`data.label_mask_paths` read them.

The template is that of allenai/OLMo `scripts/prepare_tulu_data.py`: EOS, then each message as
`<|role|>`, a newline, its text without white space at its ends (an assistant's followed by EOS), a
newline. Labels are the tokens of assistants' texts and their EOS, nothing else.
"""

import argparse
import itertools
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from olmo_core.corpus.rows import read_rows, require_utf8
from olmo_core.corpus.tokens.tokenizer import TOKENIZER
from olmo_core.data.format import Header, dtype_for, header_path
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import atomic_path, read_json, sha256_file, write_json
from olmo_core.run.command import exit_codes, set_up_logging

log = logging.getLogger("olmo")

ROLES = ("system", "user", "assistant", "tool")
ASSISTANT = "assistant"
Message = tuple[str, str]  # role, content
INPUT_IDS, LABEL_MASK, SUMMARY = "input_ids.npy", "label_mask.npy", "summary.json"
_AT_ONCE = 512  # conversations
_LOG_SECONDS = 10.0

EXAMPLES = f"""\
examples:
  python -m olmo_core.corpus.tokens.chat tulu.jsonl.gz --tokenizer=/models/olmo2 --output=/data/tulu
  python -m olmo_core.corpus.tokens.chat *.jsonl --tokenizer=dolma2.json --output=/data/chat \\
      --eos_token='<|endoftext|>' --pad_token='<|pad|>' --sequence_length=2048
  python -m olmo_core.train CONFIG.yaml --data.paths=[/data/tulu/{INPUT_IDS}] \\
      --data.label_mask_paths=[/data/tulu/{LABEL_MASK}] --load_path=CHECKPOINT \\
      --reset_trainer_state --save_folder=/data/run

sequence_length is the model's max_sequence_length: a row is one instance of training.
"""


class ChatTokenizer:
    """Turns conversations into rows of ids and label masks.

    Args:
        place: A `tokenizer.json`, or the folder that holds one.
        eos_token: Text of the token; None: what the `tokenizer_config.json` beside it says.
        pad_token: Likewise.

    Raises:
        ConfigError: no tokenizer there, or a token that it does not have or is not told.
    """

    def __init__(
        self, place: Path, *, eos_token: str | None = None, pad_token: str | None = None
    ) -> None:
        self.path = place / TOKENIZER if place.is_dir() else place
        if not self.path.is_file():
            raise ConfigError(f"--tokenizer: {self.path}: no such file")
        try:
            self._tokenizer = read_tokenizer(self.path)
        except Exception as error:  # the library raises no narrower class
            raise ConfigError(
                f"--tokenizer: {self.path}: no tokenizer.json of Hugging Face's: {error}"
            ) from None
        self.vocab_size = max(self._tokenizer.get_vocab().values(), default=-1) + 1
        self.eos_token, self.eos_token_id = self._special("eos_token", eos_token)
        _, self.pad_token_id = self._special("pad_token", pad_token)
        self._newline = self._encode(["\n"])[0]

    def rows(
        self, conversations: Sequence[Sequence[Message]], sequence_length: int
    ) -> Iterator[tuple[list[int], list[bool]]]:
        """Yield ids and label mask of each conversation, in full or up to one token too many.

        Raises:
            InputError: the tokenizer does not keep EOS apart from the text around it.
        """
        ends = {ASSISTANT: self.eos_token}
        texts = (
            text
            for messages in conversations
            for role, content in messages
            for text in (f"<|{role}|>\n", f"{content.strip()}{ends.get(role, '')}\n")
        )
        encoded = iter(self._encode(list(texts)))
        for messages in conversations:
            ids, labels = [self.eos_token_id], [False]
            for role, _ in messages:
                header, text = next(encoded), next(encoded)
                ids += header + text
                labels += [False] * len(header)
                labels += self._labels(text) if role == ASSISTANT else [False] * len(text)
            yield ids[: sequence_length + 1], labels[: sequence_length + 1]

    def _labels(self, text: list[int]) -> list[bool]:
        """Return which tokens are labels: all up to EOS, not the newline behind it."""
        spoken = len(text) - len(self._newline)
        expected, found = [self.eos_token_id, *self._newline], text[spoken - 1 :]
        if found != expected:
            raise InputError(
                f"{self.path}: {self.eos_token!r} and a newline are encoded as {found}, expected "
                f"{expected}: it must keep the two apart, EOS as a special token"
            )
        return [True] * spoken + [False] * len(self._newline)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _special(self, key: str, given: str | None) -> tuple[str, int]:
        beside = self.path.with_name("tokenizer_config.json")
        token: Any = given
        if token is None and beside.is_file():
            content: dict[str, Any] = read_json(beside)
            token = content.get(key)
            if isinstance(token, dict):
                token = cast(dict[str, Any], token).get("content")
        if not isinstance(token, str):
            raise ConfigError(f"--{key}: not given, and {beside} does not say it")
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ConfigError(f"--{key}: {self.path} has no token {token!r}")
        return token, number


@dataclass(kw_only=True)
class Counts:
    """What became of the conversations, and the tokens of those that are kept."""

    conversations: int = 0
    rows: int = 0
    without_labels: int = 0  # left out
    truncated: int = 0  # cut at the sequence length, kept or not
    tokens: int = 0  # without padding
    labels: int = 0


def prepare(
    sources: Sequence[Path], tokenizer: ChatTokenizer, output: Path, *, sequence_length: int
) -> dict[str, Any]:
    """Write `input_ids.npy`, `label_mask.npy`, the header and, last, `summary.json`.

    Returns:
        The summary.

    Raises:
        ConfigError: there is something at `output` already, or it cannot be made.
        InputError: a line that is no conversation (it names file and line), or no label at all.
    """
    if (output / SUMMARY).exists():
        raise ConfigError(f"--output: {output / SUMMARY} is there; take another folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: {output}: {error.strerror}; take another folder") from None
    dtype, counts = dtype_for(tokenizer.vocab_size), Counts()
    with (
        atomic_path(output / INPUT_IDS) as ids_path,
        atomic_path(output / LABEL_MASK) as mask_path,
        ids_path.open("wb") as ids_file,
        mask_path.open("wb") as mask_file,
    ):
        for ids, labels in _rows(sources, tokenizer, sequence_length, counts):
            ids_file.write(np.array(ids, dtype).tobytes())
            mask_file.write(np.array(labels, np.bool_).tobytes())
        if counts.labels == 0:
            raise InputError(
                f"no label in the first {sequence_length} tokens of any conversation "
                f"({counts.conversations} read, {counts.truncated} longer than that): expected "
                f"messages of the role {ASSISTANT!r}, a larger --sequence_length for long ones"
            )
    header = Header(
        dtype=dtype.name,
        tokens=counts.rows * sequence_length,
        documents=counts.rows,
        vocab_size=tokenizer.vocab_size,
        tokenizer_sha256=sha256_file(tokenizer.path),
        eos_token_id=tokenizer.eos_token_id,
        row_tokens=sequence_length,
    )
    write_json(header_path(output / INPUT_IDS), header.to_dict())
    summary = {
        "schema_version": 1,
        **asdict(counts),
        "pad_token_id": tokenizer.pad_token_id,
        **{key: value for key, value in header.to_dict().items() if key not in asdict(counts)},
        "sources": [str(source) for source in sources],
    }
    write_json(output / SUMMARY, summary)
    return summary


def _rows(
    sources: Sequence[Path], tokenizer: ChatTokenizer, sequence_length: int, counts: Counts
) -> Iterator[tuple[list[int], list[bool]]]:
    """Yield ids and labels of each conversation that has a label, cut or padded."""
    conversations = _read(sources, counts)
    while batch := list(itertools.islice(conversations, _AT_ONCE)):
        for row, mask in tokenizer.rows(batch, sequence_length):
            counts.truncated += len(row) > sequence_length
            ids, labels = row[:sequence_length], mask[:sequence_length]
            if not any(labels):
                counts.without_labels += 1
                continue
            counts.rows += 1
            counts.tokens += len(ids)
            counts.labels += sum(labels)
            padding = sequence_length - len(ids)
            yield ids + [tokenizer.pad_token_id] * padding, labels + [False] * padding


def _read(sources: Sequence[Path], counts: Counts) -> Iterator[list[Message]]:
    """Yield the conversations of all files, counted and checked line by line."""
    said = time.monotonic()
    for source in sources:
        if not source.is_file():
            raise InputError(f"{source}: {'not a file' if source.exists() else 'no such file'}")
        for line, row in enumerate(read_rows(source), start=1):
            yield _messages(row, f"{source}:{line}")
            counts.conversations += 1
            if time.monotonic() - said > _LOG_SECONDS:
                said = time.monotonic()
                log.info("%s: line %d, %d conversations in all", source, line, counts.conversations)


def _messages(row: dict[str, Any], where: str) -> list[Message]:
    messages: Any = row.get("messages")
    if "messages" not in row:
        raise InputError(f"{where}: found keys {sorted(row)}; expected 'messages'")
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: messages is {messages!r}; expected a list of at least one")
    found: list[Message] = []
    for number, message in enumerate(cast(list[Any], messages)):
        place = f"{where}: messages[{number}]"
        if not isinstance(message, dict):
            raise InputError(f"{place}: {message!r}; expected an object with role and content")
        fields = cast(dict[str, Any], message)
        role, content = fields.get("role"), fields.get("content")
        if role not in ROLES:
            raise InputError(f"{place}: role {role!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise InputError(f"{place}: content is {content!r}; expected a text")
        require_utf8(content, f"{place}: content")
        found.append((role, content))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, write the folder, print the summary."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.corpus.tokens.chat",
        description="Turn conversations into token files and label masks for fine-tuning.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="CHAT.jsonl[.gz]")
    parser.add_argument("--tokenizer", type=Path, required=True, help="its .json or folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sequence_length", type=int, default=4096, metavar="TOKENS")
    for key in ("--eos_token", "--pad_token"):
        parser.add_argument(key, metavar="TEXT", help="default: as tokenizer_config.json says")
    options = parser.parse_args(arguments)
    set_up_logging()
    with exit_codes():
        if options.sequence_length < 2:
            raise ConfigError(f"--sequence_length={options.sequence_length}: at least 2 tokens")
        tokenizer = ChatTokenizer(
            options.tokenizer, eos_token=options.eos_token, pad_token=options.pad_token
        )
        summary = prepare(
            options.sources, tokenizer, options.output, sequence_length=options.sequence_length
        )
        print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
