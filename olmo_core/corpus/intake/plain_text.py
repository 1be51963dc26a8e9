"""Read a user's text file: one document."""

from pathlib import Path

from olmo_core.errors import InputError

SUFFIXES = (".txt", ".md")


def read(path: Path) -> str:
    r"""Return the text without a byte order mark, with `\n` for `\r\n`.

    Raises:
        InputError: it is not UTF-8.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} at offset {error.start} is not "
            "UTF-8; expected text in UTF-8"
        ) from None
