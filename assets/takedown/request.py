"""Which documents are asked for: a file with an id, a URL or the SHA-1 of a text per line.

What this command writes asks for the same again: a list of excluded documents, whose `id: `,
`url: ` and `sha1: ` are passed over, and a ledger.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from olmo_core.corpus.intake.exclusions import KINDS
from olmo_core.errors import ConfigError

_SHOWN = 120  # characters of a line, in an error


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for, each once, with the lines that ask for it."""

    file: str  # as errors name it
    lines: Mapping[str, tuple[int, ...]]  # from 1

    def place(self, asked: str) -> str:
        """Return file and line of what is asked for, as an error begins."""
        return f"{self.file}:{self.lines[asked][0]}"

    def require_known(self, unknown: Iterable[str], where: str) -> None:
        """Refuse what no corpus knows, all of it at once.

        Args:
            unknown: What is asked for and was found nowhere.
            where: What was searched, in words.

        Raises:
            ConfigError: there is any.
        """
        missing = sorted(unknown, key=lambda asked: self.lines[asked])
        if missing:
            said = "\n".join(f"{self.place(each)}: {each[:_SHOWN]!a}" for each in missing)
            raise ConfigError(
                f"{said}\nno document has this id or URL, nor a text of this SHA-1, in {where}; "
                "expected one per line, as olmo trace doc takes it"
            )


def read_request(content: bytes, file: str) -> Request:
    """Return what a file asks for; blank lines and those that begin with # aside.

    Args:
        content: Of the file, in UTF-8.
        file: Its name, for errors.

    Raises:
        ConfigError: it is not UTF-8, or asks for nothing.
    """
    lines: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise ConfigError(f"{file}:{number}: not UTF-8; expected text in UTF-8") from None
        if text and not text.startswith("#"):
            asked = _asked(text)
            lines[asked] = (*lines.get(asked, ()), number)
    if not lines:
        raise ConfigError(
            f"{file}: asks for no document; expected an id, a URL or the SHA-1 of a text per line"
        )
    return Request(file=file, lines=lines)


def _asked(line: str) -> str:
    """Return what a line asks for; no id and no URL begins as those of a list or a ledger do."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            return str(row.get("sha1") or row.get("id") or line)
    kind, _, value = line.partition(": ")
    return value.strip() if kind in KINDS and value.strip() else line
