"""The texts that a tokenizer learns from: a sample of each source."""

import hashlib
import heapq
from pathlib import Path

from olmo_core.corpus.document import read_folder


def sample_texts(source: Path, *, max_bytes: int) -> list[str]:
    """Return texts of a source, in document order, of about `max_bytes` UTF-8 bytes in all.

    Documents are chosen in the order of a hash of their ids, so that a sample holds all parts of a
    source, and a larger one holds the smaller. No more than a sample is held in memory.
    """
    first: list[tuple[int, int]] = []  # a heap of (-place, bytes), the last of them on top
    held = 0
    for each in read_folder(source):
        heapq.heappush(first, (-_place(each.id), each.text_bytes))
        held += each.text_bytes
        while held - first[0][1] > max_bytes:  # full without the last one
            held -= heapq.heappop(first)[1]
    last = taken = 0
    for place, size in sorted((-place, size) for place, size in first):
        if taken and taken + size > max_bytes:
            break
        last, taken = place, taken + size
    return [each.text for each in read_folder(source) if _place(each.id) <= last]


def _place(document_id: str) -> int:
    """Return the place of a document in the order in which documents are chosen."""
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest(), "big")
