"""Read document files for documents that are looked for; many files side by side."""

import hashlib
import multiprocessing
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assets.takedown.names import name_of
from olmo_core import environment
from olmo_core.corpus.document import read_documents
from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.earlier import read_earlier
from olmo_core.corpus.duplicates.shingles import Shingler

_WORDS = 5  # of a run
_ALONE_BYTES = 64_000_000  # packed: below, other processes take longer to begin than to read


@dataclass(frozen=True, kw_only=True)
class Look:
    """What to look for in a file."""

    path: Path
    src: str  # the file, as documents in it are named by
    earlier: bool  # of an earlier corpus
    names: frozenset[str]  # ids, URLs and SHA-1
    texts: frozenset[tuple[str, str, str]]  # source, file and id: all pieces of the text
    lines: frozenset[int]  # documents that are wanted in any case


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A document that was looked for."""

    src: str
    line: int
    id: str
    source: str
    sha1: str
    url: str | None
    file: str  # that it was read from, as `metadata.file` has it
    by: tuple[str, ...]  # the names that it was found by
    runs: Array  # hashes of its runs of words, each once, sorted


def scan(looks: Sequence[Look]) -> Iterator[Sighting]:
    """Yield what is found, in the order of the files and their lines."""
    size = sum(look.path.stat().st_size for look in looks)
    processes = min(environment.processes(), len(looks))
    if processes < 2 or size < _ALONE_BYTES:
        for look in looks:
            yield from _in_file(look)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for found in pool.map(_in_file, looks):
            yield from found


def _in_file(look: Look) -> list[Sighting]:
    found: list[Sighting] = []
    read = read_earlier if look.earlier else read_documents
    for line, document in enumerate(read(look.path), start=1):
        name, url = name_of(document.id), document.metadata.get("url")
        url = url if isinstance(url, str) else None
        sha1 = hashlib.sha1(document.text.encode(), usedforsecurity=False).hexdigest()
        by = _known((*name.asked_by, sha1, url), look.names)
        file = str(document.metadata.get("file", ""))
        is_piece = bool(name.piece) and (document.source, file, name.text) in look.texts
        if by or is_piece or line in look.lines:
            found.append(
                Sighting(
                    src=look.src,
                    line=line,
                    id=document.id,
                    source=document.source,
                    sha1=sha1,
                    url=url,
                    file=file,
                    by=by,
                    runs=_runs_of_words(document.text),
                )
            )
    return found


def _known(names: Sequence[str | None], among: Collection[str]) -> tuple[str, ...]:
    return tuple(each for each in names if each is not None and each in among)


def _runs_of_words(text: str) -> Array:
    hashes, *_ = Shingler(_WORDS).hashes([text])
    return np.unique(hashes)
