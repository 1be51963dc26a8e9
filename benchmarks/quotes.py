"""Quotes at size: how fast their index is built, how large it is, how long a quote takes.

The text is what lies on this machine: sources, headers, documentation, pages, each content once,
so that nothing is repeated. It becomes token files by the asset's encoder. Quotes of the shortest
length are planted where they are hardest to find: at starts and ends of documents, over the borders
of shards and of what is decoded at once, and in text beyond ASCII. Every one must be found, in the
document that it is from. Lines that stand in very many places are asked for too, up to the number
of places after which `olmo trace doc` ends, and to the end; and texts of 3 KB, of passages of three
documents, half of which have the commonest lines between them, without their steps. Whose the
places are is asked of a documents index. All is asked with the files in the page cache, and with
their pages dropped.

A corpus of 200 GB has as many shards as its tokens fill, and each costs a read of a block: that
part of a time is multiplied by their number. What stands in n places of this corpus stands in as
many times more of that one as it is larger; the places that are compared are no more than said.

    python benchmarks/quotes.py --tokenizer dolma2.json --folder /tmp/quotes --bytes 2e9
    python benchmarks/quotes.py --tokenizer dolma2.json --folder /tmp/quotes --keep --text ~/books
"""

import argparse
import os
import random
import resource
import shutil
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quotes_corpus import Documents, drop, planted, write_corpus
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.quotes.build import build_index, token_files
from olmo_core.lineage.quotes.find import Found
from olmo_core.lineage.quotes.holders import Holders
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.passages import passages
from olmo_core.lineage.quotes.shard import SHARD_TOKENS
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES, gram_places, winnow
from pipelines.cli.trace import MOST_PLACES

WANTED_BYTES = 200e9  # of the corpus that is reckoned for


def measure(arguments: argparse.Namespace) -> None:
    """Build the index, ask for quotes and texts, and print what all takes."""
    folder, text_bytes = arguments.folder, int((arguments.folder / "bytes").read_text())
    files = token_files(folder)
    if not (folder / "index" / "index.json").exists():
        measure_build(arguments, text_bytes)
    began = time.monotonic()
    index = QuotesIndex(folder / "index", tokens=folder, digest="made up")
    print(f"opening: {1000 * (time.monotonic() - began):.0f} ms", flush=True)
    text = TokenText(folder, TokenBytes(arguments.tokenizer))
    documents = Documents(folder, [*files])
    documents.write(folder / "documents")
    tokens = sum(files.values())
    corpus = Corpus(
        folder=folder,
        index=index,
        text=text,
        documents=documents,
        known=BatchedDocumentIndex(folder / "documents"),
        larger=WANTED_BYTES / text_bytes,
        shards=WANTED_BYTES * tokens / text_bytes / SHARD_TOKENS,
    )
    measure_quotes(corpus, arguments.shard_tokens, arguments.quotes)
    common = common_lines(corpus)
    measure_common(corpus, common[:5])
    measure_texts(corpus, common)


def measure_build(arguments: argparse.Namespace, text_bytes: int) -> None:
    """Build the index, and print how long it takes and how large it is."""
    folder, began = arguments.folder, time.monotonic()
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
        f"index: {text_bytes / 1e9:.2f} GB of text, {built.tokens / 1e6:.0f} M tokens in "
        f"{built.shards} shards, {taken:.0f} s with {arguments.processes} processes: "
        f"{text_bytes / taken / 1e6:.0f} MB of text/s, "
        f"{built.size_bytes / built.tokens:.2f} bytes a token, "
        f"{built.size_bytes / text_bytes:.3f} a byte of text; "
        f"peak memory of a process {peak:,.0f} MiB",
        flush=True,
    )


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is asked, and how much larger the one is that is reckoned for."""

    folder: Path
    index: QuotesIndex
    text: TokenText
    documents: Documents
    known: BatchedDocumentIndex
    larger: float
    shards: float  # of the larger one

    @property
    def more_shards(self) -> float:
        """Return how many times as many shards the larger one has."""
        return self.shards / len(self.index.shards)

    def drawn(self, rng: random.Random) -> bytes:
        """Return the text of a document, by chance: a long one more often."""
        file = rng.choice([*self.documents.ends])
        [span] = self.documents.at(file, [rng.randrange(self.documents.ends[file][-1])])
        return self.text.read(file, span.start, span.end - 1)[0].tobytes()


def measure_quotes(corpus: Corpus, shard_tokens: int, count: int) -> None:
    """Print what planted quotes take; each must be found."""
    quotes = [*planted(corpus.text, corpus.documents, shard_tokens, count)]
    for cold in (False, True):
        times: dict[str, list[float]] = {}
        for kind, span, quote in quotes:
            if cold:
                drop(corpus.folder)
            began = time.perf_counter()
            found = [*Found(corpus.index, corpus.text, quote)]
            times.setdefault(kind, []).append(time.perf_counter() - began)
            held = [at for some in found if some.file == span.file for at in some.starts.tolist()]
            assert any(span.start <= at < span.end for at in held), (kind, span, quote)
        taken = np.array([each for of in times.values() for each in of])
        counts = ", ".join(f"{len(of)} {kind}" for kind, of in times.items())
        middle, most = np.median(taken), taken.max()
        print(
            f"{len(taken)} quotes of {MATCH_BYTES} bytes ({counts}), all found, "
            f"{'pages dropped' if cold else 'pages cached'}: median {1000 * middle:.1f} ms, "
            f"longest {1000 * most:.0f} ms; at 200 GB, {corpus.shards:.0f} shards: "
            f"median {corpus.more_shards * middle:.2f} s",
            flush=True,
        )


def common_lines(corpus: Corpus) -> list[bytes]:
    """Return lines of some thousand documents that are quotes, those of most places first."""
    rng, lines = random.Random(3), dict[bytes, np.ndarray]()
    for _ in range(3000):
        for line in corpus.drawn(rng)[:4000].splitlines():
            if len(line.strip()) >= MATCH_BYTES:
                lines[line.strip()] = winnow(np.frombuffer(line.strip(), dtype=np.uint8)).hashes
    hashes = np.unique(np.concatenate([*lines.values()]))
    ranges = corpus.index.ranges(hashes)
    counts = (ranges[..., 1] - ranges[..., 0]).sum(axis=0)
    # Of those of one rarest fingerprint the first: they are the same line but for their edges.
    of_rarest: dict[int, tuple[int, bytes]] = {}
    for line, chosen in lines.items():
        numbers = np.searchsorted(hashes, chosen)
        rarest = int(numbers[counts[numbers].argmin()])
        of_rarest.setdefault(rarest, (int(counts[rarest]), line))
    return [line for _, line in sorted(of_rarest.values(), reverse=True)]


def measure_common(corpus: Corpus, lines: Sequence[bytes]) -> None:
    """Print what quotes take that stand in very many places, and whose these are."""
    for line in lines:
        for cold in (False, True):
            for most in (MOST_PLACES, 1 << 62):
                if cold:
                    drop(corpus.folder)
                began = time.perf_counter()
                found, holders = Found(corpus.index, corpus.text, line), Holders(10)
                looked_up, indexed = time.perf_counter() - began, found.unread
                for some in found:
                    holders.add(some, corpus.known.bounds(some.file, some.starts))
                    if found.read >= most and holders.places:
                        break
                rest = time.perf_counter() - began - looked_up
                each = rest / max(1, found.read)
                more = corpus.larger * indexed
                reckoned = looked_up * corpus.more_shards + each * min(more, MOST_PLACES)
                print(
                    f"{line[:40]!r}, {indexed:,} places in the index, "
                    f"{'dropped' if cold else 'cached'}: {holders.documents:,} documents, "
                    f"{holders.places:,} times, {found.unread:,} left, "
                    f"{1000 * (looked_up + rest):.0f} ms, {1e6 * each:.1f} µs a place; at 200 GB, "
                    f"{more:,.0f} places: {reckoned:.1f} s to {MOST_PLACES:,}",
                    flush=True,
                )
                if not found.unread:
                    break


def measure_texts(corpus: Corpus, lines: Sequence[bytes]) -> None:
    """Print what the passages of texts take: 3 KB each, of parts of three documents."""
    for between in (False, True):
        for cold in (False, True):
            rng, times, reckoned, looked = random.Random(2), [], [], []
            for _ in range(10):
                parts, begins = list[bytes](), list[bytes]()
                for _ in range(3):
                    begin = corpus.drawn(rng)[: 500 if between else 1000]
                    begins.append(begin.decode(errors="ignore").encode())
                    parts += [begins[-1], b" and, of its own, "]
                    parts += rng.sample(lines[:40], 6) if between else []
                content = b"\n".join(parts)[:3000]
                if cold:
                    drop(corpus.folder)
                began = time.perf_counter()
                grams = gram_places(np.frombuffer(content, dtype=np.uint8))
                ranges = corpus.index.ranges(np.array([*grams], dtype=np.uint64))
                looked_up = time.perf_counter() - began
                counts = (ranges[..., 1] - ranges[..., 0]).sum(axis=0)
                began = time.perf_counter()
                found = passages(
                    corpus.index, corpus.text, content, corpus.known.bounds, most=MOST_PLACES
                )
                taken = time.perf_counter() - began
                assert len(found)
                for part in begins:
                    first = content.find(part)
                    held = first < 0 or found.holding(first, first + len(part))
                    assert held or found.unread_of(first, first + len(part))
                indexed = int(counts.sum()) - found.unread
                most = min(corpus.larger, MOST_PLACES / max(1, indexed))
                times.append(taken)
                looked.append(indexed)
                reckoned.append(
                    looked_up * corpus.more_shards + max(0, taken - looked_up) * max(1, most)
                )
            print(
                f"texts of 3 KB{', half of common lines' if between else ''}, "
                f"{'dropped' if cold else 'cached'}: median {1000 * np.median(times):.0f} ms, "
                f"longest {1000 * max(times):.0f} ms, up to {max(looked):,} places looked at; "
                f"at 200 GB median {np.median(reckoned):.1f} s, longest {max(reckoned):.1f} s",
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
