"""Indexes over small corpora."""

from collections.abc import Callable
from pathlib import Path

from olmo_core.lineage.quotes.build import Built, build_index
from olmo_core.lineage.quotes.shard import SHARD_TOKENS

DIGEST = "ab" * 32


def build(
    folder: Path,
    *,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Build the index of the token files of a folder, in it."""
    return build_index(
        folder / "index",
        tokens=folder,
        digest=DIGEST,
        tokenizer=folder / "tokenizer.json",
        processes=1,
        progress=progress,
        shard_tokens=shard_tokens,
    )
