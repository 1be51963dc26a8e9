"""Token files in dolma's layout: what lies on disk, and opening it without trusting it.

A token file is a headerless little-endian array of token ids with an EOS after each document.
Beside it lie the rows of its documents (`.csv.gz`) and a small header (`.json`). Opening checks
only size, dtype and vocabulary: reading all ids of a pretraining corpus would take hours.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from olmo_core.data.content import require_ids
from olmo_core.data.files import Files
from olmo_core.errors import InputError
from olmo_core.remote.storage import Missing, is_remote

SCHEMA_VERSION = 1
DTYPES = ("uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What `part-P-NNNNN.json` says about the token file beside it."""

    schema_version: int = SCHEMA_VERSION
    dtype: str  # numpy's name; the bytes are little-endian
    tokens: int  # EOS included
    documents: int
    vocab_size: int  # every id is below it
    tokenizer_sha256: str  # of tokenizer.json
    eos_token_id: int
    row_tokens: int | None = None  # of the padded rows that it is made of; None: one stream

    def to_dict(self) -> dict[str, int | str]:
        """Return the JSON object of the header file."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A token file that has been checked; one that we did not write has no header."""

    path: str
    dtype: np.dtype
    tokens: int
    header: Header | None


def dtype_for(vocab_size: int) -> np.dtype:
    """Return the dtype that our writer uses for a vocabulary: uint16 if it fits, else uint32."""
    return little_endian("uint16" if vocab_size <= 1 << 16 else "uint32")


def little_endian(name: str, *, where: str | Path = "memmap_dtype") -> np.dtype:
    """Return numpy's dtype of a token file by its name; errors name the place `where`.

    Raises:
        InputError: the name is not one of `DTYPES`.
    """
    if name not in DTYPES:
        raise InputError(f"{where}: dtype {name!r}: token files are one of {', '.join(DTYPES)}")
    return np.dtype(name).newbyteorder("<")


def header_path(path: str | Path) -> Path:
    """Return the path of the header beside a token file."""
    return Path(path).with_suffix(".json")


def rows_path(path: str | Path) -> Path:
    """Return the path of the rows (`start,end,id,src,loc`) beside a token file."""
    return Path(path).with_suffix(".csv.gz")


def read_header(path: str | Path, *, files: Files) -> Header | None:
    """Return the header of the token file `path`; None if it has none.

    Raises:
        InputError: the header is malformed or of another schema version.
    """
    place = _header_of(str(path))
    try:
        text = bytearray(files.size(place))
        files.read_into(place, 0, memoryview(text))
        content = json.loads(text)
    except Missing:
        return None
    except ValueError as error:
        raise InputError(f"{place}: not valid JSON: {error}") from None
    names = {field.name for field in fields(Header)}
    if not isinstance(content, dict) or not names - {"row_tokens"} <= set(content) <= names:
        raise InputError(f"{place}: expected an object with the keys {', '.join(sorted(names))}")
    if content["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"{place}: schema_version {content['schema_version']!r}; this reads {SCHEMA_VERSION}"
        )
    return Header(**content)


def _header_of(path: str) -> str:
    """Return `header_path` of a local file or of a URL, which may end in a query."""
    if not is_remote(path):
        return str(header_path(path))
    return re.sub(r"(\.[^./?]*)?(\?.*)?$", r".json\2", path, count=1)


def open_token_file(
    path: str | Path,
    *,
    files: Files | None = None,
    dtype: np.dtype | None = None,
    vocab_size: int | None = None,
    need_header: bool = False,
) -> TokenFile:
    """Check a token file's size against its dtype and header, and its vocabulary against a model's.

    Args:
        path: The `.npy` file, or its URL.
        files: Who reads it; None: a reader of its own.
        dtype: What its reader expects; needed where there is no header.
        vocab_size: Entries of the vocabulary of the model that will read it.
        need_header: Refuse a file without a header.

    Raises:
        InputError: missing, empty, truncated, not what the header or the reader says, or, without
            a header, plainly something else than ids of that dtype (see `content`).
    """
    files = files or Files()
    size_bytes = files.size(str(path))
    header = read_header(path, files=files)
    if header is None:
        if need_header:
            raise InputError(f"{_header_of(str(path))}: missing; the token file has no header")
        if dtype is None:
            raise InputError(f"{path}: no header beside it, so its dtype must be given")
        found = dtype
    else:
        found = little_endian(header.dtype, where=_header_of(str(path)))
    if dtype is not None and found != dtype:
        raise InputError(
            f"{path}: its header says {found.name}; data.memmap_dtype, or the manifest, says "
            f"{dtype.name}"
        )
    if size_bytes == 0:
        raise InputError(f"{path}: empty; a token file holds at least one token")
    if header is None:
        require_ids(str(path), found, files, size_bytes)
    tokens, rest = divmod(size_bytes, found.itemsize)
    if rest:
        raise InputError(
            f"{path}: {size_bytes} bytes is no multiple of {found.itemsize} ({found.name}): "
            "truncated, or of another dtype"
        )
    if header is not None and header.tokens != tokens:
        raise InputError(
            f"{path}: its header says {header.tokens} tokens ({header.tokens * found.itemsize} "
            f"bytes), the file has {tokens} ({size_bytes} bytes): truncated or replaced"
        )
    if header is not None and vocab_size is not None and header.vocab_size > vocab_size:
        raise InputError(
            f"{path}: written with a vocabulary of {header.vocab_size}, "
            f"but the model has {vocab_size} entries"
        )
    return TokenFile(path=str(path), dtype=found, tokens=tokens, header=header)


def read_tokens(file: TokenFile, start: int, stop: int) -> np.ndarray:
    """Return token ids [start, stop) of an opened file, shape (stop - start,), in its dtype."""
    if not 0 <= start <= stop <= file.tokens:
        raise InputError(f"{file.path}: range [{start}, {stop}) of {file.tokens} tokens")
    ids = np.empty(stop - start, dtype=file.dtype)
    Files().read_into(file.path, start * file.dtype.itemsize, ids.view(np.uint8).data)
    return ids
