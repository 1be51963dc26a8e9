"""A finished quotes index, opened."""

from collections.abc import Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.files import Files
from olmo_core.errors import InputError
from olmo_core.files import read_json
from olmo_core.lineage.quotes.build import HOW, INDEX, token_files
from olmo_core.lineage.quotes.shard import Postings, Shard, postings_path

_READERS = 16  # shards read at one time: a disk answers many as fast as one


class QuotesIndex:
    """Look fingerprints up in all shards of an index.

    Args:
        folder: Of the index.
        tokens: Run folder of `tokens` that it is of.
        digest: Of its content, as its result says.

    Raises:
        InputError: it is not finished, damaged, made otherwise, or of other tokens.
    """

    def __init__(self, folder: Path, *, tokens: Path, digest: str) -> None:
        content = _content(folder)
        if content["tokens_digest"] != digest or content["files"] != token_files(tokens):
            raise InputError(
                f"{folder}: the index of other tokens than {tokens} holds; build it anew"
            )
        files = Files()
        self.shards = [
            Postings(postings_path(folder, number), Shard(**each), files)
            for number, each in enumerate(content["shards"])
        ]

    def ranges(self, hashes: np.ndarray) -> np.ndarray:
        """Return which postings [first, stop) of each shard are of each hash, int64 (s, n, 2).

        Raises:
            InputError: a part of the index is damaged.
        """
        if len(self.shards) == 1:
            return self.shards[0].ranges(hashes)[None]
        with ThreadPool(min(_READERS, len(self.shards))) as pool:
            return np.stack(pool.starmap(Postings.ranges, [(each, hashes) for each in self.shards]))


def _content(folder: Path) -> Mapping[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{folder}: not a finished quotes index: no {INDEX}")
    content: dict[str, Any] = read_json(path)
    if any(content.get(key) != HOW[key] for key in HOW):
        raise InputError(f"{path}: expected an index of {HOW}; build it anew")
    return content
