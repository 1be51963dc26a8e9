"""Build a quotes index of a run of `tokens`: shard by shard, resumable, in several processes.

A process holds a shard's postings, about 8 bytes for each fifth token, and as much again while
they are sorted: 0.6 GiB for the 2**27 tokens of a full shard of English.
"""

import contextlib
import fcntl
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.format import open_token_file
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import PARTIAL, sha256_file, write_json
from olmo_core.lineage.quotes.shard import (
    SHARD_TOKENS,
    Shard,
    postings_of,
    postings_path,
    shard_path,
    write_shard,
)
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import GRAM_BYTES, MATCH_BYTES, WINDOW, winnow
from olmo_core.tasks.map import process_pool

SCHEMA_VERSION = 1  # of files and hashes
INDEX, LOCK = "index.json", "build.lock"
HOW = {"schema_version": SCHEMA_VERSION, "gram_bytes": GRAM_BYTES, "window": WINDOW}
_AT_ONCE = 1 << 18  # tokens decoded at once


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build has done."""

    shards: int
    reused: int  # of these: left by a build that was interrupted
    tokens: int
    postings: int
    size_bytes: int


def token_files(tokens: Path) -> dict[str, int]:
    """Return the tokens in each token file of a run folder of `tokens`, by name, in order.

    Raises:
        InputError: there is none, or one is truncated.
    """
    paths = sorted((tokens / "tokens").rglob("*.npy"))
    if not paths:
        raise InputError(f"{tokens / 'tokens'}: no token file")
    return {
        path.relative_to(tokens).as_posix(): open_token_file(path, need_header=True).tokens
        for path in paths
    }


def build_index(
    folder: Path,
    *,
    tokens: Path,
    digest: str,
    tokenizer: Path,
    processes: int,
    progress: Callable[[int, int], None],
    shard_tokens: int = SHARD_TOKENS,
) -> Built:
    """Build the index in `folder`; shards that an interrupted build has finished are kept.

    Args:
        folder: Of this index alone.
        tokens: Run folder of `tokens`.
        digest: Of its content, as its result says.
        tokenizer: `tokenizer.json` that the tokens were made with.
        processes: How many work at once.
        progress: Told the tokens that are done, and all.
        shard_tokens: Most tokens of a shard.

    Raises:
        ConfigError: another process builds it.
        InputError: a token file cannot be read, or is of another tokenizer.
    """
    files = token_files(tokens)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for left in folder.glob(f"*{PARTIAL}"):  # of a build that was killed
            left.unlink()
        (folder / INDEX).unlink(missing_ok=True)
        wanted = [*_plan(files, shard_tokens)]
        known = [_finished(folder, number, *part) for number, part in enumerate(wanted)]
        reused = sum(each is not None for each in known)
        done = sum(each.stop - each.start for each in known if each)
        total = sum(files.values())
        progress(done, total)
        missing = [number for number, each in enumerate(known) if each is None]
        if missing:
            TokenBytes(tokenizer)  # one that cannot be searched is refused once, here
        try:
            with process_pool(processes) as pool:
                made = {
                    pool.submit(
                        build_shard, folder, number, tokens, tokenizer, *wanted[number]
                    ): number
                    for number in missing
                }
                for future in as_completed(made):
                    known[made[future]] = shard = future.result()
                    done += shard.stop - shard.start
                    progress(done, total)
        except BrokenProcessPool:
            raise InputError(
                f"{folder}: a process ended before its shard was written (killed, or out of "
                "memory: 0.6 GiB each); the same command goes on with what is left"
            ) from None
        shards = [shard for shard in known if shard is not None]
        content: dict[str, Any] = {
            **HOW,
            "tokens_digest": digest,
            "tokenizer_sha256": sha256_file(tokenizer),
            "files": files,
            "shards": [asdict(shard) for shard in shards],
        }
        write_json(folder / INDEX, content)
    return Built(
        shards=len(shards),
        reused=reused,
        tokens=total,
        postings=sum(shard.postings for shard in shards),
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
    )


def build_shard(
    folder: Path, number: int, tokens: Path, tokenizer: Path, file: str, start: int, stop: int
) -> Shard:
    """Write the shard of tokens [start, stop) of a file; runs in a process of its own."""
    text = TokenText(tokens, TokenBytes(tokenizer))
    # A token has a byte at least: so far a match that begins in the shard's last token may reach.
    end = min(text.tokens(file), stop + MATCH_BYTES)
    parts: list[np.ndarray] = []
    at = start
    while at < end:
        upto = min(end, at + _AT_ONCE)
        content, edges = text.read(file, at, upto)
        found = winnow(content)
        inside = np.searchsorted(edges, found.places, "right") - 1
        parts.append(postings_of(found.hashes, inside + (at - start)))
        if upto == end:
            break
        # The next part begins in the token in which its first whole window that is new does.
        again = int(np.searchsorted(edges, int(edges[-1]) - (MATCH_BYTES - 1), "right")) - 1
        at += max(1, again)
    postings = np.concatenate(parts)
    parts.clear()  # or they would be held a third time while what is sorted is copied
    return write_shard(folder, number, postings, file=file, start=start, stop=stop)


def _plan(files: dict[str, int], shard_tokens: int) -> Iterator[tuple[str, int, int]]:
    """Yield the tokens of each shard: file, first, one after the last."""
    for name, tokens in files.items():
        for start in range(0, tokens, shard_tokens):
            yield name, start, min(tokens, start + shard_tokens)


def _finished(folder: Path, number: int, file: str, start: int, stop: int) -> Shard | None:
    """Return a shard that is there already; None: it is not, or it is of other tokens."""
    path = shard_path(folder, number)
    if not path.is_file() or not postings_path(folder, number).is_file():
        return None
    shard = Shard.read(path)
    return shard if shard.holds(file, start, stop) else None


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another process builds this index; wait for it") from None
        yield
