"""The text of token files, as bytes, with the token that each byte is of."""

import functools
from pathlib import Path

import numpy as np

from olmo_core.data.files import Files
from olmo_core.data.format import TokenFile, open_token_file
from olmo_core.errors import InputError
from olmo_core.lineage.quotes.token_bytes import TokenBytes


class TokenText:
    """Read parts of token files as text.

    Args:
        tokens: Run folder of `tokens`.
        table: Of the tokenizer that they were made with.
    """

    def __init__(self, tokens: Path, table: TokenBytes) -> None:
        self.table = table
        self._root = tokens
        self._files = Files()
        self._open = functools.cache(self._opened)

    def tokens(self, file: str) -> int:
        """Return how many tokens a file has."""
        return self._open(file).tokens

    def read(self, file: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes of tokens [start, stop) of a file, and where each token begins.

        Args:
            file: Relative to the run folder.
            start: First token.
            stop: One after the last.

        Raises:
            InputError: the file is gone or truncated, or holds an id that the tokenizer lacks.
        """
        return self.read_each(file, np.array([[start, stop]]))

    def read_each(self, file: str, stretches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `read` of some stretches of a file, int64 (n, 2), joined end to end.

        Raises:
            InputError: as `read`.
        """
        opened = self._open(file)
        size = opened.dtype.itemsize
        ids = np.empty(int((stretches[:, 1] - stretches[:, 0]).sum()), dtype=opened.dtype)
        buffer, done = ids.view(np.uint8).data, 0
        for start, stop in (stretches * size).tolist():
            upto = done + stop - start
            self._files.read_into(opened.path, start, buffer[done:upto])
            done = upto
        try:
            return self.table.decode(ids)
        except InputError as error:
            where = f"tokens {stretches[0, 0]} to {stretches[-1, 1]}"
            raise InputError(f"{opened.path}: {where}: {error}") from None

    def _opened(self, file: str) -> TokenFile:
        return open_token_file(self._root / file, files=self._files, need_header=True)
