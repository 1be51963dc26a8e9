"""What a file without a header holds, told by its bytes: token ids of some width, or none at all.

Any bytes can be read as ids of any dtype, and most of them lie within a large vocabulary. So what
is plainly something else is named before a step is spent on it.
"""

import codecs
from collections.abc import Sequence

import numpy as np

from olmo_core.data.files import Files
from olmo_core.errors import InputError
from olmo_core.remote.storage import is_remote

_SPOT_BYTES = 1 << 14  # a multiple of the widest id

_FORMATS = {
    b"\x93NUMPY": "a file of numpy.save; a token file is raw ids: write it with array.tofile",
    b"PK\x03\x04": "a zip archive (numpy.savez writes one); a token file is raw ids",
    b"\x1f\x8b\x08": "compressed by gzip; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it",
    b"PAR1": "a Parquet file; a token file is raw ids",
    b"ARROW1": "an Arrow file; a token file is raw ids",
}
_TEXT_BYTES = 64  # by chance so many bytes of ids are not all printable
# What the halves of wider ids may reach: a vocabulary of 2**18, and many different ids between.
_HIGHEST_HALF, _DISTINCT = 3, 50


def require_ids(path: str, dtype: np.dtype, files: Files, size_bytes: int) -> None:
    """Refuse a file without a header that is no token file, or one of wider ids than `dtype`.

    Raises:
        InputError: says what it is instead.
    """
    count = min(_SPOT_BYTES, size_bytes)
    starts = {0}
    if not is_remote(path):  # a server takes a request for each
        starts |= {start // 8 * 8 for start in ((size_bytes - count) // 2, size_bytes - count)}
    spots = [files.read_spot(path, start, count) for start in sorted(starts)]
    for magic, what in _FORMATS.items():
        if spots[0].startswith(magic):
            raise InputError(f"{path}: {what}")
    # as uint8, text is its own ids
    if dtype.itemsize > 1 and (text := _as_text(spots[0])) is not None:
        raise InputError(
            f"{path}: text ({text!r} …), not token ids; tokenise it first (docs/corpus.md)"
        )
    width = _width_of_ids(spots)
    if width is not None and 1 < dtype.itemsize < width:
        raise InputError(
            f"{path}: ids of {'uint32' if width == 4 else 'int64'} read as {dtype.name}: every "
            f"second number is a high half; set data.memmap_dtype: uint{8 * width}"
        )


def _as_text(head: bytes) -> str | None:
    """Return the first line of `head`, up to 40 characters, if it is printable text; else None."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return None
    if len(head) < _TEXT_BYTES or not all(line.isprintable() for line in text.split()):
        return None
    return " ".join(text.split())[:40]


def _width_of_ids(spots: Sequence[bytes]) -> int | None:
    """Return 8 or 4, the bytes of an id, if these parts of a file are ids of that width; else None.

    Ids of a vocabulary leave their high halves at 0 (or at most 3, of four bytes), while the low
    ones differ. No text has such tokens in every second place.

    Args:
        spots: Parts of the file, each from a multiple of eight bytes on.
    """
    content = b"".join(spot[: len(spot) // 8 * 8] for spot in spots)
    for size, half in ((8, "<u4"), (4, "<u2")):
        halves = np.frombuffer(content, dtype=half)
        limit = 0 if size == 8 else _HIGHEST_HALF
        if halves[1::2].max(initial=0) <= limit and len(np.unique(halves[::2])) >= _DISTINCT:
            return size
    return None
