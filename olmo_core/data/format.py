"""Token files in dolma's layout: what lies on the disk, and opening it without trusting it.

A token file is a headerless little-endian array of token ids, an EOS after each document, beside
rows of its documents (`.csv.gz`) and a small header (`.json`). Only size, dtype and vocabulary are
checked at opening: reading all ids of a pretraining corpus would take hours.
"""

import functools
import os
import resource
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from olmo_core.run.files import read_json
from olmo_core.run.job import InputError

SCHEMA_VERSION = 1
DTYPES = ("uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a token file of ours says about itself, in `part-P-NNNNN.json`."""

    schema_version: int = SCHEMA_VERSION
    dtype: str  # numpy's name; the bytes are little-endian
    tokens: int  # EOS included
    documents: int
    vocab_size: int  # every id is below it
    tokenizer_sha256: str  # of tokenizer.json
    eos_token_id: int

    def to_dict(self) -> dict[str, int | str]:
        """The JSON object of the header file."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """An opened (that is: checked) token file; a file of others has no header."""

    path: str
    dtype: np.dtype
    tokens: int
    header: Header | None


def dtype_for(vocab_size: int) -> np.dtype:
    """The dtype that our writer uses for a vocabulary: uint16 where it fits, else uint32."""
    return little_endian("uint16" if vocab_size <= 1 << 16 else "uint32")


def little_endian(name: str, *, where: str | Path = "memmap_dtype") -> np.dtype:
    """Numpy's dtype of a token file, by its name; `where` is the place that errors name.

    Raises:
        InputError: the name is not one of `DTYPES`.
    """
    if name not in DTYPES:
        raise InputError(f"{where}: dtype {name!r}: token files are one of {', '.join(DTYPES)}")
    return np.dtype(name).newbyteorder("<")


def header_path(path: str | Path) -> Path:
    """The header beside a token file."""
    return Path(path).with_suffix(".json")


def rows_path(path: str | Path) -> Path:
    """The rows (`start,end,id,src,loc`) beside a token file."""
    return Path(path).with_suffix(".csv.gz")


def read_header(path: str | Path) -> Header | None:
    """The header of the token file `path`; None where it has none.

    Raises:
        InputError: the header is malformed or of another schema version.
    """
    place = header_path(path)
    try:
        content = read_json(place)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(str(error)) from None
    names = {field.name for field in fields(Header)}
    if not isinstance(content, dict) or set(content) != names:
        raise InputError(f"{place}: expected an object with the keys {', '.join(sorted(names))}")
    if content["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"{place}: schema_version {content['schema_version']!r}; this reads {SCHEMA_VERSION}"
        )
    return Header(**content)


def open_token_file(
    path: str | Path,
    *,
    dtype: np.dtype | None = None,
    vocab_size: int | None = None,
    need_header: bool = False,
) -> TokenFile:
    """Check a token file's size against its dtype and header, and its vocabulary against a model's.

    Args:
        path: The `.npy` file.
        dtype: What its reader expects; needed where there is no header.
        vocab_size: Rows of the embedding that will read it.
        need_header: Refuse a file without a header.

    Raises:
        InputError: missing, empty, truncated, or not what the header or the reader says.
    """
    header = read_header(path)
    size_bytes = size_of(path)
    if header is None:
        if need_header:
            raise InputError(f"{header_path(path)}: missing; the token file has no header")
        if dtype is None:
            raise InputError(f"{path}: no header beside it, so its dtype must be given")
    found = dtype
    if header is not None:
        found = little_endian(header.dtype, where=header_path(path))
    assert found is not None
    if dtype is not None and found != dtype:
        raise InputError(f"{path}: its header says {found.name}, its reader expects {dtype.name}")
    if size_bytes == 0:
        raise InputError(f"{path}: empty; a token file holds at least one token")
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


def size_of(path: str | Path) -> int:
    """Size of a local file in bytes.

    Raises:
        InputError: it is missing, a folder, or on another machine.
    """
    if "://" in str(path):
        raise InputError(f"{path}: remote token files are not read in place; copy it first")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if not os.path.isfile(path):
        raise InputError(f"{path}: not a file")
    return status.st_size


class _Descriptor:
    """A file descriptor that lives as long as anyone reads through it."""

    __slots__ = ("number",)

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class FileReader:
    """Reads bytes at any place of any number of files, from any thread.

    `pread` and not a memory map: a file that shrinks underneath is an error with a name (a map
    kills the process by SIGBUS), thousands of terabyte files take no address space, and a copy is
    made either way.
    """

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        capacity = 4096 if soft == resource.RLIM_INFINITY else min(4096, max(16, soft // 4))
        # An evicted descriptor closes when its last reader drops it.
        self._descriptor = functools.lru_cache(maxsize=capacity)(_Descriptor)

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the file's bytes from `offset` on.

        Raises:
            InputError: the file is gone or ends before the buffer is full.
        """
        try:
            number = self._descriptor(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file (there when it was opened)") from None
        done = 0
        while done < len(buffer):
            count = os.preadv(number.number, [buffer[done:]], offset + done)
            if count == 0:
                raise InputError(
                    f"{path}: ends at byte {offset + done}, expected {offset + len(buffer)}: "
                    "truncated since it was opened"
                )
            done += count


def read_tokens(file: TokenFile, start: int, stop: int) -> np.ndarray:
    """Token ids [start, stop) of an opened file, shape (stop - start,), in the file's dtype."""
    if not 0 <= start <= stop <= file.tokens:
        raise InputError(f"{file.path}: range [{start}, {stop}) of {file.tokens} tokens")
    ids = np.empty(stop - start, dtype=file.dtype)
    FileReader().read_into(file.path, start * file.dtype.itemsize, ids.view(np.uint8).data)
    return ids
