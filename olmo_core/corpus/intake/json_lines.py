"""Read a user's JSON lines: plain, `.gz` or `.zst`."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from olmo_core.corpus.intake.passages import Refused
from olmo_core.corpus.rows import parse_row, read_lines
from olmo_core.errors import InputError

SUFFIXES = tuple(
    f"{kind}{packed}" for kind in (".jsonl", ".json") for packed in ("", ".gz", ".zst")
)


def read(path: Path) -> Iterator[tuple[int, dict[str, Any] | Refused]]:
    """Yield the number of each line, from 1, and its object; a byte order mark may begin a file.

    Raises:
        InputError: the file is not whole: of such a file no line is known to be.
    """
    for number, line in read_lines(path):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, parse_row(line, f"{path}:{number}")
        except InputError as error:
            place = {"line": number, "content": repr(line[:2000])}
            yield number, Refused(error=error, place=place)
