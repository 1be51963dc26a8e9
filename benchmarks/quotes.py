"""Quotes at size: how fast their index is built, how large it is, how long a quote takes.

The text is what lies on this machine: sources, headers, documentation, pages, each content once,
so that nothing is repeated. It becomes token files by the asset's encoder. Quotes of the shortest
length are planted where they are hardest to find: at starts and ends of documents, over the borders
of shards and of what is decoded at once, and in text beyond ASCII. Every one must be found, in the
document that it is from. Quotes are asked for with the index in the page cache, and with its pages
dropped. A corpus of 200 GB has as many shards as its tokens fill: each costs a read of a block, so
the time is that of a shard times their number. Texts of 3 KB are traced too, without their steps.

    python benchmarks/quotes.py --tokenizer dolma2.json --folder /tmp/quotes --bytes 2e9
    python benchmarks/quotes.py --tokenizer dolma2.json --folder /tmp/quotes --keep --text ~/books
"""

import argparse
import bisect
import os
import random
import re
import resource
import shutil
import sysconfig
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from xxhash import xxh3_128_digest

from olmo_core.corpus.tokens.encoder import Encoder
from olmo_core.data.document_index import DocumentSpan
from olmo_core.data.format import Header, dtype_for, header_path
from olmo_core.files import sha256_file, write_json
from olmo_core.lineage.quotes.build import build_index, token_files
from olmo_core.lineage.quotes.find import find
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.passages import passages
from olmo_core.lineage.quotes.shard import SHARD_TOKENS
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
from olmo_core.tasks.map import process_pool

KINDS = frozenset((".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".c", ".html", ".js", ".po"))
LARGEST_BYTES = 2 << 20  # of a file
FILE_BYTES = 1 << 26  # of text, in a token file
WANTED_BYTES = 200e9  # of the corpus that is reckoned for
EOS = "<|endoftext|>"


def texts(folders: Sequence[Path], most_bytes: float) -> Iterator[str]:
    """Yield the text files below some folders, each content once, up to so many bytes."""
    seen: set[bytes] = set()
    total = 0
    for folder in folders:
        for parent, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                path = Path(parent, name)
                if path.suffix not in KINDS or path.is_symlink():
                    continue
                content = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else b""
                digest = xxh3_128_digest(content)
                if len(content) < 500 or digest in seen:
                    continue
                seen.add(digest)
                total += len(content)
                yield content.decode(errors="replace")
                if total >= most_bytes:
                    return


def write_tokens(tokenizer: Path, folder: Path, number: int, documents: Sequence[str]) -> int:
    """Write a token file, where its documents end, and the texts; return the bytes of text."""
    encoder = Encoder(tokenizer)
    eos = encoder.tokenizer.token_to_id(EOS) or 0
    vocab_size = max(encoder.tokenizer.get_vocab().values()) + 1
    ids = [np.append(each, np.uint32(eos)) for each in encoder.encode(documents)]
    path = folder / "tokens" / "text" / f"part-0-{number:05d}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate(ids).astype(dtype_for(vocab_size)).tofile(path)
    header = Header(
        dtype=dtype_for(vocab_size).name,
        tokens=sum(map(len, ids)),
        documents=len(ids),
        vocab_size=vocab_size,
        tokenizer_sha256=sha256_file(tokenizer),
        eos_token_id=eos,
    )
    np.cumsum([len(each) for each in ids]).tofile(path.with_suffix(".ends"))
    write_json(header_path(path), header.to_dict())
    return sum(len(each.encode()) for each in documents)


def write_corpus(arguments: argparse.Namespace) -> None:
    """Make token files of the text that is there."""
    found = texts(arguments.text, arguments.bytes)
    began, total, number, waiting = time.monotonic(), 0, 0, []
    with process_pool(arguments.processes) as pool:
        while documents := [*islice_bytes(found, FILE_BYTES)]:
            call = partial(write_tokens, arguments.tokenizer, arguments.folder, number)
            waiting.append(pool.submit(call, documents))
            number += 1
            if len(waiting) > arguments.processes:  # so that few texts are held
                total += waiting.pop(0).result()
        total += sum(each.result() for each in waiting)
    (arguments.folder / "bytes").write_text(str(total))
    print(f"{total / 1e9:.2f} GB of text tokenised in {time.monotonic() - began:.0f} s", flush=True)


def islice_bytes(found: Iterator[str], most_bytes: int) -> Iterator[str]:
    """Yield texts up to so many bytes."""
    total = 0
    while total < most_bytes:
        for text in islice(found, 1):
            total += len(text.encode())
            yield text
            break
        else:
            return


class Documents:
    """Where the documents of each token file lie."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.ends = {
            file: np.fromfile((folder / file).with_suffix(".ends"), np.int64).tolist()
            for file in files
        }

    def at(self, file: str, places: Sequence[int]) -> list[DocumentSpan]:
        """Return the document of each token."""
        ends = self.ends[file]
        numbers = [bisect.bisect_right(ends, place) for place in places]
        return [
            DocumentSpan(
                file=file, start=ends[n - 1] if n else 0, end=ends[n], id=str(n), src="", loc=1
            )
            for n in numbers
        ]


def planted(
    text: TokenText, documents: Documents, shard_tokens: int, count: int
) -> Iterator[tuple[str, DocumentSpan, bytes]]:
    """Yield the kind, document and bytes of quotes: whole characters, as short as they may be."""
    rng = random.Random(1)
    for number in range(count):
        file = rng.choice([*documents.ends])
        ends = documents.ends[file]
        kind = ("start", "middle", "end", "border", "not ASCII")[number % 5]
        for _ in range(500):
            tokens = ends[-1]
            border = rng.randrange(1, max(2, -(-tokens // shard_tokens))) * shard_tokens
            at = min(tokens - 1, border) if kind == "border" else rng.randrange(tokens)
            [span] = documents.at(file, [at])
            content = text.read(file, span.start, span.end - 1)[0].tobytes()
            if len(content) < 2 * MATCH_BYTES or (kind == "not ASCII" and content.isascii()):
                continue
            first = rng.randrange(len(content) - MATCH_BYTES)
            if kind == "border":
                before = len(text.read(file, span.start, at)[0])
                first = max(0, min(before - rng.randrange(MATCH_BYTES), len(content) - MATCH_BYTES))
            if kind == "not ASCII":
                strange = rng.choice([*re.finditer(rb"[^\x00-\x7f]", content)]).start()
                first = min(max(0, strange - MATCH_BYTES // 2), len(content) - MATCH_BYTES)
            first = {"start": 0, "end": len(content) - MATCH_BYTES}.get(kind, first)
            quote = whole(content, first)
            if quote is not None and (kind != "not ASCII" or not quote.isascii()):
                yield kind, span, quote
                break


def whole(content: bytes, first: int) -> bytes | None:
    """Return the shortest quote of whole characters around a place; None: there is none."""
    last = first + MATCH_BYTES
    while first > 0 and content[first] & 0xC0 == 0x80:
        first -= 1
    while last < len(content) and content[last] & 0xC0 == 0x80:
        last += 1
    return content[first:last] if len(content[first:last].strip()) > MATCH_BYTES // 2 else None


def drop(folder: Path) -> None:
    """Drop files below a folder from the page cache."""
    for path in folder.rglob("*.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(arguments: argparse.Namespace) -> None:
    """Build the index, ask for quotes, and print what both take."""
    folder, text_bytes = arguments.folder, int((arguments.folder / "bytes").read_text())
    files = token_files(folder)
    if not (folder / "index" / "index.json").exists():
        began = time.monotonic()
        built = build_index(
            folder / "index",
            tokens=folder,
            digest="made up",
            tokenizer=arguments.tokenizer,
            processes=arguments.processes,
            progress=lambda done, total: None,
            shard_tokens=arguments.shard_tokens,
        )
        taken = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
        print(
            f"index: {built.tokens / 1e6:.0f} M tokens in {built.shards} shards, {taken:.0f} s "
            f"with {arguments.processes} processes: {text_bytes / taken / 1e6:.0f} MB of text/s, "
            f"{built.size_bytes / built.tokens:.2f} bytes a token, "
            f"{built.size_bytes / text_bytes:.3f} a byte of text; "
            f"peak memory of a process {peak:,.0f} MiB",
            flush=True,
        )
    began = time.monotonic()
    index = QuotesIndex(folder / "index", tokens=folder, digest="made up")
    print(f"opening: {1000 * (time.monotonic() - began):.0f} ms", flush=True)
    text = TokenText(folder, TokenBytes(arguments.tokenizer))
    documents = Documents(folder, [*files])
    quotes = [*planted(text, documents, arguments.shard_tokens, arguments.quotes)]
    tokens = sum(files.values())
    wanted = WANTED_BYTES * tokens / text_bytes / SHARD_TOKENS
    for cold in (False, True):
        times: dict[str, list[float]] = {}
        for kind, span, quote in quotes:
            if cold:
                drop(folder)
            began = time.perf_counter()
            found = [*find(index, text, quote)]
            times.setdefault(kind, []).append(time.perf_counter() - began)
            held = [place for place in found if place.file == span.file]
            assert any(span.start <= place.start < span.end for place in held), (kind, span, quote)
        taken = np.array([each for of in times.values() for each in of])
        counts = ", ".join(f"{len(of)} {kind}" for kind, of in times.items())
        middle, most = np.median(taken), taken.max()
        print(
            f"{len(taken)} quotes of {MATCH_BYTES} bytes ({counts}), all found, "
            f"{'pages dropped' if cold else 'pages cached'}: median {1000 * middle:.1f} ms, "
            f"longest {1000 * most:.0f} ms; at 200 GB, {wanted:.0f} shards: "
            f"median {wanted * middle / len(index.shards):.2f} s, "
            f"longest {wanted * most / len(index.shards):.2f} s",
            flush=True,
        )
    measure_texts(index, text, documents, wanted)


def measure_texts(index: QuotesIndex, text: TokenText, documents: Documents, wanted: float) -> None:
    """Print what the passages of texts take: 3 KB each, of parts of three documents."""
    rng, taken = random.Random(2), []
    for _ in range(20):
        parts: list[bytes] = []
        for _ in range(3):
            file = rng.choice([*documents.ends])
            [span] = documents.at(file, [rng.randrange(documents.ends[file][-1])])
            content = text.read(file, span.start, span.end - 1)[0].tobytes()
            parts += [content[:1000], b" and, of its own, "]
        began = time.perf_counter()
        found = passages(index, text, b"".join(parts), documents.at)
        taken.append(time.perf_counter() - began)
        assert found.found
    middle, most = np.median(taken), max(taken)
    print(
        f"texts of 3 KB: median {1000 * middle:.0f} ms, longest {1000 * most:.0f} ms; at 200 GB "
        f"median {wanted * middle / len(index.shards):.1f} s, if all grows with the shards",
        flush=True,
    )


def main() -> None:
    """Make the corpus, build, measure, and remove what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "/usr"]
    parser.add_argument("--text", type=Path, nargs="+", default=[Path(place) for place in places])
    parser.add_argument("--bytes", type=float, default=2e9, help="of text, at most")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a released tokenizer.json")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--quotes", type=int, default=250)
    parser.add_argument("--shard-tokens", type=int, default=SHARD_TOKENS)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", action="store_true", help="leave it; measure what is there")
    arguments = parser.parse_args()
    try:
        if not (arguments.keep and arguments.folder.exists()):
            arguments.folder.mkdir(parents=True)
            write_corpus(arguments)
        measure(arguments)
    finally:
        if not arguments.keep:
            shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
