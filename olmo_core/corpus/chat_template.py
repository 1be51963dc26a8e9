"""OLMo's chat template: a conversation as token ids, and which of them are labels.

EOS, then each message as `<|role|>`, a newline, its text without white space at its ends (an
assistant's followed by EOS), a newline. Labels are the tokens of assistants' texts and their EOS,
nothing else. The template is that of allenai/OLMo `scripts/prepare_tulu_data.py`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from olmo_core.corpus.tokenizer import TOKENIZER
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json

ROLES = ("system", "user", "assistant", "tool")
ASSISTANT = "assistant"

Message = tuple[str, str]  # role, content


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
            self._tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # the library raises no narrower class
            raise ConfigError(
                f"--tokenizer: {self.path}: no tokenizer.json of Hugging Face's: {error}"
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = max(self._tokenizer.get_vocab().values()) + 1
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
        texts = (
            text
            for messages in conversations
            for role, content in messages
            for text in (f"<|{role}|>\n", f"{content.strip()}{self._end(role)}\n")
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

    def _end(self, role: str) -> str:
        return self.eos_token if role == ASSISTANT else ""

    def _labels(self, text: list[int]) -> list[bool]:
        """Return which tokens are labels: all up to EOS, not the newline behind it."""
        spoken = len(text) - len(self._newline)
        expected, found = [self.eos_token_id, *self._newline], text[spoken - 1 :]
        if found != expected:
            raise InputError(
                f"{self.path}: {self.eos_token!r} and a newline are encoded as {found}, expected "
                f"{expected}: EOS must be a special token"
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
