"""Documents of perplexity sets, one after the other: JSON lines, or token files taken apart."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from olmo_core.corpus.rows import read_rows, require_utf8
from olmo_core.data.files import Files
from olmo_core.data.format import TokenFile, dtype_for, little_endian, open_token_file
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.files import sha256_file

BLOCK_TOKENS = 1 << 20  # of a token file in memory at once, and those of a document
ENCODED_CHARACTERS = 1 << 20  # of texts that are encoded at once, the last one whole


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text to be scored."""

    id: str
    domain: str  # the subdomain where the row names one, else the source
    text: str
    tokens: np.ndarray | None = None  # its ids, where they are what was found


Reader = Callable[[], Iterator[Document]]  # the documents of a source, from the first


def read_texts(files: Sequence[Path], *, source: str) -> Iterator[Document]:
    """Yield the documents of JSON-lines files: a text each, and perhaps `id` and `subdomain`.

    Raises:
        InputError: a file is truncated or malformed; names file and line.
    """
    for path in files:
        for line, row in enumerate(read_rows(path), start=1):
            yield to_document(row, source=source, where=f"{path}:{line}")


def to_document(row: Mapping[str, Any], *, source: str, where: str) -> Document:
    """Return the document of a row; its text may be empty, which others' data sometimes is.

    Args:
        row: With `text`, and perhaps `id` and `subdomain`, which may be whole numbers.
        source: Its domain where the row names no subdomain.
        where: Of the row, `file:line`; the id of one that has none.

    Raises:
        InputError: with `where`: a key is missing, of another type, or cannot be written as UTF-8.
    """
    if not isinstance(text := row.get("text"), str):
        kind = type(text).__name__
        found = f"is a {kind}" if "text" in row else f"is missing among {sorted(row)}"
        raise InputError(f"{where}: key 'text' {found}; expected a string")
    require_utf8(text, f"{where}: key 'text'")
    return Document(
        id=_name(row, "id", where) or where.rpartition("/")[2],
        domain=_name(row, "subdomain", where) or source,
        text=text,
    )


def _name(row: Mapping[str, Any], key: str, where: str) -> str:
    """Return a name as text; empty where the row has none, or null. 0 is a name."""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        kind = type(value).__name__
        raise InputError(f"{where}: key {key!r} is a {kind}; expected a string or a whole number")
    require_utf8(str(value), f"{where}: key {key!r}")
    return str(value)


def read_token_files(
    files: Sequence[Path],
    *,
    source: str,
    tokenizer: Path,
    dtype: str,
    eos_token_id: Callable[[], int],
) -> Iterator[Document]:
    """Yield the documents of token files: what ends in EOS, or with the file, and its text.

    Args:
        files: With a header beside each, or without.
        source: The domain of them all.
        tokenizer: The tokenizer.json that made them.
        dtype: Of the ids; empty: what the tokenizer's vocabulary needs.
        eos_token_id: Returns the id that ends a document; asked only where no header says it.

    Raises:
        InputError: a file is no token file of this dtype, or of another tokenizer; names it.
    """
    decoder, made_by = read_tokenizer(tokenizer), sha256_file(tokenizer)
    entries = decoder.get_vocab_size(with_added_tokens=True)
    expected = little_endian(dtype) if dtype else dtype_for(entries)
    for path in files:
        file = open_token_file(path, files=Files(), dtype=expected)
        if file.header is not None and file.header.tokenizer_sha256 != made_by:
            raise InputError(
                f"{path}: its header says tokenizer {file.header.tokenizer_sha256[:12]}…, but "
                f"{tokenizer} is {made_by[:12]}…; expected the one that made it"
            )
        eos = eos_token_id() if file.header is None else file.header.eos_token_id
        found = token_documents(file, eos, entries, Files())
        for number, ids in enumerate(found, start=1):
            yield _decoded(decoder, ids, f"{path.name}:{number}", source)


def token_documents(
    file: TokenFile, eos_token_id: int, entries: int, files: Files
) -> Iterator[np.ndarray]:
    """Yield the ids of each document of a token file, without its EOS; the last one may have none.

    Args:
        file: As `open_token_file` returns it.
        eos_token_id: Ends a document.
        entries: Of the vocabulary.
        files: Who reads it.

    Raises:
        InputError: an id is beyond the vocabulary.
    """
    rest = np.empty(0, file.dtype)
    for start in range(0, file.tokens, BLOCK_TOKENS):
        block = np.empty(min(BLOCK_TOKENS, file.tokens - start), file.dtype)
        files.read_into(file.path, start * file.dtype.itemsize, block.view(np.uint8).data)
        if block.max() >= entries:
            raise InputError(
                f"{file.path}: id {block.max()} at token {start + int(block.argmax())}; expected "
                f"ids below the {entries} of the vocabulary, or another dtype than "
                f"{file.dtype.name}"
            )
        *whole, rest = np.split(
            np.concatenate([rest, block]), np.nonzero(block == eos_token_id)[0] + len(rest) + 1
        )
        yield from (ids[:-1] for ids in whole)
    if len(rest):
        yield rest


def _decoded(decoder: Tokenizer, ids: np.ndarray, name: str, source: str) -> Document:
    text = decoder.decode(ids.tolist(), skip_special_tokens=False)
    return Document(id=name, domain=source, text=text, tokens=ids)


def token_ids(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Yield each document's ids, without special tokens, as found or as encoded now."""
    texts: list[str] = []
    size = 0
    for document in documents:
        if document.tokens is not None:
            yield document.tokens
            continue
        texts.append(document.text)
        size += len(document.text)
        if size >= ENCODED_CHARACTERS:
            yield from _encoded(tokenizer, texts)
            texts, size = [], 0
    yield from _encoded(tokenizer, texts)


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    # `fast`: without the offsets, which take most of the memory.
    for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        yield np.array(encoding.ids, np.int32)
