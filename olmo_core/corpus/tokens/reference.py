"""Token files of others as files of the asset `tokens`: fetched or linked, read once, verified.

A file that lies on this machine stays where it is, and a symbolic link takes its place. One that is
downloaded lies in a cache, and the run folder has a hard link to it, so that the cache may go.
"""

import errno
import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.corpus.document import numbered, totals
from olmo_core.corpus.tokens.document_ends import DocumentEnds, check_rows, written_rows
from olmo_core.corpus.tokens.listing import write_list
from olmo_core.corpus.tokens.published import PublishedSource, list_files, rows_beside
from olmo_core.data.format import (
    Header,
    TokenFile,
    header_path,
    little_endian,
    open_token_file,
    rows_path,
)
from olmo_core.errors import InputError
from olmo_core.files import write_json
from olmo_core.remote.address import address
from olmo_core.remote.cache import cache_path
from olmo_core.remote.download import download_files
from olmo_core.remote.storage import is_remote
from olmo_core.remote.transfer import Wanted
from olmo_core.run.job import Job
from olmo_core.tasks.map import Task, map_tasks

READ_TOKENS = 1 << 22  # at once
CACHE = "token_files"  # below the cache of the root: what was downloaded
HEADER, ROWS = "header.json", "rows.csv.gz"  # in the output of a task


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One token file of others, on this machine by now."""

    source: str
    number: str  # among those of its source, in digits that sort
    place: str  # URL, or path of a local file
    times: int  # that it is listed
    tokens: Path
    rows: Path | None  # of its documents, where there are any

    @property
    def name(self) -> str:
        """Return the path of the token file in the run folder."""
        return f"tokens/{self.source}/part-0-{self.number}.npy"

    @property
    def origin(self) -> str:
        """Return where it is from: an address, or a name that is the same on every machine."""
        return address(self.place) if is_remote(self.place) else Path(self.place).name


def add_published(
    sources: Sequence[PublishedSource], header: Header, job: Job
) -> list[dict[str, Any]]:
    """Give the token files of all sources their places in the run folder; return a row of each.

    Args:
        sources: What the section names.
        header: What all token files of the run share.
        job: The run folder, and the processes that read the files.

    Raises:
        ConfigError: a list names no file.
        InputError: a file is not there, or not one of ids of this vocabulary, or its rows are not
            of it.
    """
    listed = {source.source: list_files(source) for source in sources}
    # Once each: two sources may name one file.
    places = dict.fromkeys(place for each in listed.values() for place in each.times)
    with job.timed("fetch"):
        here = _fetch([place for place in places if is_remote(place)], job)
    references = [
        Reference(
            source=name,
            number=number,
            place=place,
            times=times,
            tokens=here.get(place, Path(place)),
            rows=_rows_of(place, here),
        )
        for name, each in listed.items()
        for number, (place, times) in zip(
            numbered(len(each.times)), each.times.items(), strict=True
        )
    ]
    tasks = [
        Task(
            name=f"read {each.name}",
            reads=f"{address(each.place)} {_version(each.tokens)} {_version(each.rows)} {header}",
            output=job.scratch / "published" / each.source / each.number,
            call=partial(read_file, each, header),
        )
        for each in references
    ]
    with job.timed("read published files"):
        found = map_tasks(tasks, job, unit="token files")
    for each, task in zip(references, tasks, strict=True):
        _place(each, task.output, job.folder / each.name)
    files = [
        {"file": each.name, "from": each.origin, "listed": each.times, **facts}
        for each, facts in zip(references, found, strict=True)
    ]
    write_list(job.folder, files)
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each, file in zip(references, files, strict=True):
        by_source[each.source].append(file)
    return [_row(source, by_source[source.source]) for source in sources]


def read_file(reference: Reference, header: Header, out: Path) -> dict[str, Any]:
    """Read a token file from end to end; runs in a process of its own.

    Args:
        reference: What is read.
        header: What it must be, without counts.
        out: A folder, made here: its header and, where none were published, its rows.

    Returns:
        Its bytes, SHA-256, numbers of tokens and documents, and what tells these apart.

    Raises:
        InputError: names the file, or its rows, and what they are instead.
    """
    out.mkdir()
    try:
        file = open_token_file(reference.tokens, dtype=little_endian(header.dtype))
        written_by = file.header.tokenizer_sha256 if file.header else header.tokenizer_sha256
        if written_by != header.tokenizer_sha256:
            raise InputError(
                f"{file.path}: written by tokenizer {written_by[:12]}, the recipe's is "
                f"{header.tokenizer_sha256[:12]}"
            )
        if reference.rows is None:
            name = f"{reference.source}/{Path(reference.name).stem}"
            with written_rows(out / ROWS, name, reference.origin) as ends:
                facts = scan(file, header, ends)
            documents = ends.documents
        else:
            facts = scan(file, header)
            documents = check_rows(reference.rows, file, header.eos_token_id)
    except InputError as error:
        raise InputError(f"{reference.place}: {error}") from None
    whole = replace(header, tokens=file.tokens, documents=documents)
    write_json(out / HEADER, whole.to_dict())
    return {
        **facts,
        "tokens": file.tokens,
        "documents": documents,
        "documents_by": "EOS" if reference.rows is None else "csv.gz",
    }


def scan(file: TokenFile, header: Header, ends: DocumentEnds | None = None) -> dict[str, Any]:
    """Read all ids of a file, and let `ends` see them; return its bytes and SHA-256.

    Raises:
        InputError: an id beyond the vocabulary, no EOS at all, or a file that has changed.
    """
    digest, position, found = hashlib.sha256(), 0, 0
    with open(file.path, "rb", buffering=0) as raw:
        while len(ids := np.fromfile(raw, dtype=file.dtype, count=READ_TOKENS)):
            digest.update(ids.view(np.uint8).data)
            if int(ids.max()) >= header.vocab_size:
                first = int(np.argmax(ids >= header.vocab_size))
                raise InputError(
                    f"{file.path}: token {position + first} is {ids[first]}; expected ids below "
                    f"{header.vocab_size}, of the recipe's tokenizer: another one's, or of another "
                    f"dtype than {file.dtype.name}?"
                )
            at = np.flatnonzero(ids == header.eos_token_id) + (position + 1)
            found += len(at)
            position += len(ids)
            if ends is not None:
                ends.add(at)
    if position != file.tokens:
        raise InputError(f"{file.path}: {position} of {file.tokens} tokens; it has changed")
    if not found:
        raise InputError(
            f"{file.path}: no token is {header.eos_token_id}, which ends documents in the recipe's "
            "tokenizer (eos_token); expected one after each document"
        )
    if ends is not None:
        ends.close(position)
    return {"bytes": position * file.dtype.itemsize, "sha256": digest.hexdigest()}


def _fetch(urls: Sequence[str], job: Job) -> dict[str, Path]:
    """Download token files, and their rows where there are any; return their paths, by URL."""
    cache = job.cache / CACHE
    rows = [rows_beside(url) for url in urls]
    wanted = [
        *(Wanted(url=url, path=cache_path(url, cache)) for url in urls),
        *(Wanted(url=url, path=cache_path(url, cache), optional=True) for url in rows),
    ]

    def progress(done: int, total: int, said: str) -> None:
        job.progress(done, total, unit="bytes", message=said)

    return {file.url: file.path for file in download_files(wanted, progress=progress)}


def _rows_of(place: str, here: Mapping[str, Path]) -> Path | None:
    rows = rows_beside(place)
    if is_remote(place):
        return here.get(rows)
    return Path(rows) if os.path.isfile(rows) else None


def _version(path: Path | None) -> str:
    """Return what changes with a file: a task that read another one is done again."""
    if path is None:
        return ""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _place(reference: Reference, made: Path, target: Path) -> None:
    """Give a token file, its rows and its header their names in the run folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    foreign = not is_remote(reference.place)
    _link(reference.tokens, target, foreign=foreign)
    if reference.rows is None:
        os.link(made / ROWS, rows_path(target))
    else:
        _link(reference.rows, rows_path(target), foreign=foreign)
    os.link(made / HEADER, header_path(target))


def _link(file: Path, target: Path, *, foreign: bool) -> None:
    if not foreign:
        try:
            os.link(file, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:  # the cache may be on another disk
                raise
    os.symlink(file.absolute(), target)


def _row(source: PublishedSource, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of a source."""
    return {
        "source": source.source,
        **totals(files, "documents", "tokens"),
        "tokens_as_listed": sum(file["tokens"] * file["listed"] for file in files),
        "files": len(files),
        "documents_by": ", ".join(sorted({file["documents_by"] for file in files})),
    }
