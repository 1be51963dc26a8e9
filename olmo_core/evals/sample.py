"""Which documents of a task are scored where its recipe limits their number."""

import hashlib


def sampled_documents(task: str, *, seed: int, documents: int, limit: int) -> list[int]:
    """Return `limit` of the numbers 0, 1, … of a split's documents, in order.

    They are a pure function of the arguments: those whose SHA-256 of task, seed and number are the
    smallest. A smaller limit chooses some of those that a larger one chooses.
    """

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{task} {seed} {number}".encode()).digest()

    return sorted(sorted(range(documents), key=place)[:limit])
