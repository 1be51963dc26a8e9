"""The texts that a tokenizer learns from: a sample of each source.

Tasks over groups of shards read all texts once, and leave those that the sample of their source may
hold.
"""

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from olmo_core.corpus.document import read_documents, shards, utf8_bytes
from olmo_core.corpus.rows import read_rows, row_line
from olmo_core.run.job import Job
from olmo_core.tasks.map import Task, map_tasks

GROUP_SHARDS = 64  # that one task reads; a group leaves a sample at most


class Sample:
    """The texts of about so many UTF-8 bytes that come first in the order of a hash of their ids.

    So a sample holds all parts of a source, and a larger one holds the smaller. No more than a
    sample is held in memory.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # A heap of (-place, bytes, number, text), the last of them on top.
        self._first: list[tuple[int, int, int, str]] = []
        self._held = 0
        self._added = 0

    def add(self, place: int, text: str) -> None:
        """Add the text of the next document, which has this place among all."""
        size = utf8_bytes(text)
        heapq.heappush(self._first, (-place, size, self._added, text))
        self._added += 1
        self._held += size
        while self._held - self._first[0][1] > self._max_bytes:  # full without the last one
            self._held -= heapq.heappop(self._first)[1]

    def held(self) -> list[tuple[int, str]]:
        """Return what the sample of more documents may hold: place and text, in their order."""
        ordered = sorted(self._first, key=lambda each: each[2])
        return [(-place, text) for place, _, _, text in ordered]

    def texts(self) -> list[str]:
        """Return the sample, in the order of the documents."""
        taken: list[tuple[int, str]] = []
        size_taken = 0
        for _, size, number, text in sorted(self._first, key=lambda each: -each[0]):
            if taken and size_taken + size > self._max_bytes:
                break
            taken.append((number, text))
            size_taken += size
        return [text for _, text in sorted(taken)]


def choose_texts(
    documents: Path, names: Sequence[str], job: Job, *, reads: str, max_bytes: int
) -> Mapping[str, list[str]]:
    """Return a sample of each source's texts, in document order.

    Args:
        documents: The folder of sources.
        names: Of the sources.
        job: Its scratch folder holds what the tasks leave.
        reads: Digest of the documents.
        max_bytes: Of a sample, in UTF-8; one text may be larger.
    """
    tasks: dict[str, list[Task]] = {}
    for name in names:
        paths = shards(documents / name)
        tasks[name] = [
            Task(
                name=f"choose {max_bytes} bytes of {name} from shard {first} on",
                reads=reads,
                output=job.scratch / "texts" / name / f"{first:06d}.jsonl",
                call=partial(sample_shards, paths[first : first + GROUP_SHARDS], max_bytes),
            )
            for first in range(0, len(paths), GROUP_SHARDS)
        ]
    map_tasks([*chain(*tasks.values())], job, unit="groups")
    return {
        name: sample_texts([task.output for task in found], max_bytes=max_bytes)
        for name, found in tasks.items()
    }


def sample_shards(paths: Sequence[Path], max_bytes: int, out: Path) -> None:
    """Write the texts of shards that a sample of their source may hold."""
    sample = Sample(max_bytes)
    for document in chain.from_iterable(map(read_documents, paths)):
        sample.add(_place(document.id), document.text)
    with out.open("wb") as rows:
        for place, text in sample.held():
            rows.write(row_line({"place": place, "text": text}))


def sample_texts(files: Sequence[Path], *, max_bytes: int) -> list[str]:
    """Return the sample of a source from what `sample_shards` wrote of all its shards, in order."""
    sample = Sample(max_bytes)
    for row in chain.from_iterable(map(read_rows, files)):
        sample.add(row["place"], row["text"])
    return sample.texts()


def _place(document_id: str) -> int:
    """Return the place of a document in the order in which documents are chosen."""
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest(), "big")
