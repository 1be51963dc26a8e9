"""Documents into token files: the ids of a shard by the order's key, then a file's of all shards.

A map leaves one folder per shard (`write_shard`), its documents sorted by key. A reduce reads a
range of keys from each (`read_range`), sorts what it read, and writes token files. So a shard, or a
piece of a range, is all that a process holds, and no number of files grows with maps times ranges.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from olmo_core.corpus.document import numbered
from olmo_core.corpus.tokens.document_ends import row_writer
from olmo_core.data.format import Header, header_path, little_endian, open_token_file, rows_path
from olmo_core.files import atomic_path, write_json

PIECE_TOKENS = 1 << 25  # of documents that are sorted at once: 128 MiB of uint32
_SLICE = 1024  # documents that are read at once where they need no sorting
_CHECKED = 1 << 22  # ids that are looked at at once
# One document of a shard: its line, and where its ids and its name end; the first row is zero. Keys
# have a file of their own: a search in them touches a few pages.
_ROW = np.dtype([("line", "<u8"), ("tokens_end", "<u8"), ("name_end", "<u8")])
Packed = tuple[bytes, str, str, int]  # a document's ids as bytes; its id, its file and its line


def order_key(name: str, seed: int) -> int:
    """Return the place of a document, by its id, in the order of a seed: 64 bits of BLAKE2b."""
    key = seed.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest(), "little")


def write_shard(
    folder: Path, documents: Iterable[tuple[str, np.ndarray]], *, seed: int | None
) -> np.ndarray:
    """Write the ids of a shard's documents by key, in the order of the lines where there is none.

    Args:
        folder: Made here; read by `read_range`.
        documents: The id of each line's document, and its token ids.
        seed: Of the order; None: as read.

    Returns:
        The bytes of each document's token ids, (documents,).
    """
    folder.mkdir(parents=True)
    names: list[bytes] = []
    keys: list[int] = []
    lengths: list[int] = []
    as_read = folder / "as_read"
    with as_read.open("wb") as raw:
        for name, ids in documents:
            raw.write(ids.tobytes())
            names.append(name.encode())
            keys.append(0 if seed is None else order_key(name, seed))
            lengths.append(ids.nbytes)
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    order: list[int] = np.argsort(np.asarray(keys, dtype="<u8"), kind="stable").tolist()
    with as_read.open("rb") as raw, (folder / "tokens").open("wb") as out:
        for number in order:
            out.write(os.pread(raw.fileno(), int(sizes[number]), int(starts[number])))
    as_read.unlink()
    rows = np.zeros(len(names) + 1, dtype=_ROW)
    rows["line"][1:] = np.add(order, 1)
    rows["tokens_end"][1:] = np.cumsum(sizes[order])
    rows["name_end"][1:] = np.cumsum([len(names[number]) for number in order])
    (folder / "names").write_bytes(b"".join(names[number] for number in order))
    np.save(folder / "documents.npy", rows)
    np.save(folder / "keys.npy", np.asarray(keys, dtype="<u8")[order])
    return sizes


def read_range(
    shards: Mapping[str, Path], pieces: range, of: int, *, shuffled: bool
) -> Iterator[Packed]:
    """Yield the documents of a source whose keys are in some of `of` equal ranges of all keys.

    Args:
        shards: The folder that `write_shard` made of each document file, in the files' order.
        pieces: The numbers of the ranges; each is held in memory by itself.
        of: How many there are.
        shuffled: By key; else as read, and then a range is all documents.
    """
    if not shuffled:
        for src, folder in shards.items():
            count = len(np.load(folder / "keys.npy", mmap_mode="r"))
            for start in range(0, count, _SLICE):
                yield from _read(src, folder, start, min(start + _SLICE, count))
        return
    for piece in pieces:
        keys: list[np.ndarray] = []
        documents: list[Packed] = []
        for src, folder in shards.items():
            found = np.load(folder / "keys.npy", mmap_mode="r")
            start = int(np.searchsorted(found, np.uint64((piece << 64) // of)))
            last = np.uint64((((piece + 1) << 64) // of) - 1)
            stop = int(np.searchsorted(found, last, "right"))
            keys.append(np.array(found[start:stop]))
            documents += _read(src, folder, start, stop)
        # Stable: two documents with one key keep the order of their files.
        for number in np.argsort(np.concatenate(keys), kind="stable"):
            yield documents[number]


def _read(src: str, folder: Path, start: int, stop: int) -> list[Packed]:
    """Return documents [start, stop) of a shard's folder."""
    rows = np.load(folder / "documents.npy", mmap_mode="r")[start : stop + 1]
    ids = _cut(folder / "tokens", rows["tokens_end"].tolist())
    names = _cut(folder / "names", rows["name_end"].tolist())
    lines = rows["line"][1:].tolist()
    return [
        (each, name.decode(), src, line) for each, name, line in zip(ids, names, lines, strict=True)
    ]


def _cut(path: Path, ends: Sequence[int]) -> list[bytes]:
    """Return the bytes between each end and the next."""
    with path.open("rb") as file:
        file.seek(ends[0])
        content = file.read(ends[-1] - ends[0])
    if len(content) < ends[-1] - ends[0]:
        raise EOFError(f"{path}: ends before byte {ends[-1]}")
    return [content[one - ends[0] : other - ends[0]] for one, other in pairwise(ends)]


def write_files(
    documents: Iterable[Packed], max_tokens: int, header: Header, folder: Path
) -> dict[str, int]:
    """Write documents, in order, into `folder/part-0-NNNNN.npy` …, and check these.

    Args:
        documents: Of one source.
        max_tokens: Per file; a longer document has a file of its own.
        header: What the headers share; the counts are filled in.
        folder: Made here.

    Returns:
        The numbers of files, of documents and of tokens, read from the files.
    """
    folder.mkdir()
    itemsize = np.dtype(header.dtype).itemsize
    counts = {"files": 0, "documents": 0, "tokens": 0}
    for number, group in groupby(_numbered(documents, itemsize, max_tokens), lambda pair: pair[0]):
        path = folder / f"part-0-{number:05d}.npy"
        end = written = 0
        with (
            atomic_path(path) as beside,
            beside.open("wb") as out,
            row_writer(rows_path(path)) as rows,
        ):
            for _, (ids, *place) in group:
                out.write(ids)
                written += 1
                start, end = end, end + len(ids) // itemsize
                rows.writerow((start, end, *place))  # start, end, id, src, loc
        write_json(header_path(path), replace(header, tokens=end, documents=written).to_dict())
        counts["files"] += 1
        counts["documents"] += written
        counts["tokens"] += check_file(path, header)
    return counts


def _numbered(
    documents: Iterable[Packed], itemsize: int, max_tokens: int
) -> Iterator[tuple[int, Packed]]:
    """Yield each document and the number of its file: a new one where the next does not fit."""
    number = filled = 0
    for document in documents:
        length = len(document[0]) // itemsize
        if filled and filled + length > max_tokens:
            number, filled = number + 1, 0
        filled += length
        yield number, document


def check_file(path: Path, header: Header) -> int:
    """Check that a token file is what its header says, with ids of the vocabulary and an EOS last.

    Returns:
        The number of its tokens.

    Raises:
        InputError: it is not what its header says.
        RuntimeError: an id is beyond the vocabulary, or the last is no EOS.
    """
    file = open_token_file(path, vocab_size=header.vocab_size, need_header=True)
    last = None
    with path.open("rb") as raw:
        while len(ids := np.fromfile(raw, dtype=little_endian(header.dtype), count=_CHECKED)):
            if int(ids.max()) >= header.vocab_size:
                raise RuntimeError(f"{path}: id {ids.max()}: beyond {header.vocab_size}")
            last = int(ids[-1])
    if last != header.eos_token_id:
        raise RuntimeError(f"{path}: does not end with an EOS")
    return file.tokens


def link_files(folders: Iterable[Path], target: Path) -> None:
    """Give the token files of finished tasks, in order, their names in the folder of a source.

    By links: a job that is ended in the middle finds the files of its tasks whole.
    """
    target.mkdir(parents=True)
    # By number, of however many digits: a task does not know beforehand how many files it makes.
    files = [
        path
        for folder in folders
        for path in sorted(folder.glob("*.npy"), key=lambda p: (len(p.name), p))
    ]
    for number, path in zip(numbered(len(files)), files, strict=True):
        name = target / f"part-0-{number}.npy"
        os.link(path, name)
        os.link(rows_path(path), rows_path(name))
        os.link(header_path(path), header_path(name))


def pieces_of(tokens: int, max_tokens: int) -> tuple[int, int]:
    """Return how many files the documents of a source go to, and how many pieces each is made of.

    A twentieth of a file is left free, so that few of equal ranges of keys need a second file.
    """
    files = 1 if tokens <= max_tokens else -(-tokens // max(1, max_tokens * 19 // 20))
    return files, -(-tokens // (files * PIECE_TOKENS))
