"""Read the lists that a user writes beside a source: an entry per line."""

from collections.abc import Iterator
from pathlib import Path

from olmo_core.errors import InputError


def read_list(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text; no blank lines, none that begin with #.

    Raises:
        InputError: a line is not UTF-8.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                raise InputError(f"{path}:{number}: not UTF-8; expected text in UTF-8") from None
            if text and not text.startswith("#"):
                yield number, text
