"""Which documents of a task are scored where its recipe limits their number."""

import hashlib
import random


def sampled_documents(task: str, *, seed: int, documents: int, limit: int) -> list[int]:
    """Return `limit` of the numbers 0, 1, … of a split's documents, in order.

    They are a pure function of the arguments: those whose SHA-256 of task, seed and number are the
    smallest. A smaller limit chooses some of those that a larger one chooses.
    """

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{task} {seed} {number}".encode()).digest()

    return sorted(sorted(range(documents), key=place)[:limit])


def published_documents(*, seed: int, documents: int, limit: int) -> list[int]:
    """Return the numbers of the documents that AI2's evaluation draws, in order.

    Python's `random.Random(seed)` draws `limit` of a split's documents; the same for all tasks with
    splits of one size.
    """
    return sorted(random.Random(seed).sample(range(documents), limit))
