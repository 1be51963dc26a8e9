"""How fast copies and near copies are found, and which: MB of text a CPU-second of all processes.

examples:
  python benchmarks/deduplicate.py                    the bars and the planted set: minutes
  python benchmarks/deduplicate.py --mb=10 --rounds=1
  python benchmarks/deduplicate.py --planted=2000     fewer planted documents; 0: none

Contestants, each in a process of its own, take turns on the same documents, the standard library's
modules with a tenth of them again: copies by digests (`keys`) against dolma's Bloom filters
(`dolma`), near copies as the asset `near_duplicates` finds them (`near`) against one process with
rensa's index and estimated similarity (`former`). Medians; ratios are medians of a round's ratios.
Bars: 3 times the rate of each rival.

The planted set is of pairs with an exact Jaccard similarity between 0.3 and 1: recall by bin of it,
and members of clusters that are no near copy of their cluster's first, joined by a chain.
"""

import argparse
import collections
import importlib
import json
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

PACKAGE = "olmo_core.corpus.duplicates"
BAR = 3.0
RIVALS = {"keys": "dolma", "near": "former"}
WORD = re.compile(r"\w+")


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def write_corpus(folder: Path, megabytes: float) -> None:
    """Modules as documents in shards of 8 MB, and a small perplexity set."""
    document = importlib.import_module("olmo_core.corpus.document")
    paths = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    size = 0
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        for part in re.split(r"\n\n\n(?=def |class )", text):
            if part.strip() and size < megabytes * 1e6:
                texts.append(part)
                size += len(part.encode())
    texts += random.Random(1).sample(texts, len(texts) // 10)
    write(document, folder, texts)
    held = [document.Document(id=f"h/{n}", text=t, source="h") for n, t in enumerate(texts[:50])]
    document.write_shards(folder / "paloma" / "h" / "val", held, shard_bytes=8_000_000)


def write(document: Any, folder: Path, texts: list[str]) -> None:
    rows = [document.Document(id=f"a/{n}", text=t, source="a") for n, t in enumerate(texts)]
    document.write_shards(folder / "documents" / "a", rows, shard_bytes=8_000_000)
    keys, components = (importlib.import_module(f"{PACKAGE}.{n}") for n in ("keys", "components"))
    with keys.table_file(folder / "clusters.parquet", components.CLUSTERS):
        pass  # held_out's, without near copies
    (folder / "result.json").write_text(json.dumps({"digest": "of these texts"}))


def contest(name: str, folder: Path) -> None:
    """Do one contestant's work on a folder; print the megabytes of text and the CPU-seconds."""
    job = importlib.import_module("olmo_core.run.job")
    document = importlib.import_module("olmo_core.corpus.document")
    size = sum(each.text_bytes for each in document.read_folder(folder / "documents"))
    modules = {part: importlib.import_module(f"{PACKAGE}.{part}") for part in ("copies", "bloom")}
    near = importlib.import_module(f"{PACKAGE}.near_duplicates")
    with tempfile.TemporaryDirectory() as scratch, job.Job.open(Path(scratch) / "job") as run:
        run.processes = 1
        began = cpu_seconds()
        texts, paloma, out = folder / "documents", folder / "paloma", run.folder / "attributes"
        if name == "keys":
            modules["copies"].mark_copies(
                texts, paloma, folder / "clusters.parquet", out, run, reads="", min_bytes=40
            )
        elif name == "dolma":
            modules["bloom"].mark_copies(texts, paloma, out, run, min_bytes=40)
        elif name == "near":
            near.make(near.NearDuplicateConfig(), {"raw": folder}, run)
        else:
            former_groups([each.text for each in document.read_folder(texts)])
        print(size / 1e6, cpu_seconds() - began)


def shingles(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    return {" ".join(words[n : n + 5]) for n in range(max(1, len(words) - 4))}


def former_groups(texts: list[str]) -> list[int]:
    """What the asset `held_out` did: each text's group, by the number of its first text."""
    rensa: Any = importlib.import_module("rensa")
    index = rensa.RMinHashLSH(0.7, 128, 16)
    signatures: list[Any] = []
    parents: list[int] = []

    def root(member: int) -> int:
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = parents[member]
        return member

    for number, text in enumerate(texts):
        signature = rensa.RMinHash(128, 42)
        signature.update(sorted(shingles(text)))
        parents.append(number)
        for candidate in sorted(index.query(signature)):
            one, other = sorted((root(candidate), root(number)))
            if one != other and signature.jaccard(signatures[candidate]) >= 0.7:
                parents[other] = one
        index.insert(number, signature)
        signatures.append(signature)
    return [root(member) for member in range(len(parents))]


def planted_texts(documents: int) -> list[str]:
    """Pairs of texts, the second with runs of its words replaced: more or less alike."""
    noise = random.Random(0)
    vocabulary = [f"w{n}" for n in range(20_000)]
    texts: list[str] = []
    for _ in range(documents // 2):
        words = noise.choices(vocabulary, k=noise.randrange(100, 600))
        changed = list(words)
        for _ in range(int(len(words) * noise.random() ** 2 * 0.12)):
            changed[noise.randrange(len(words))] = noise.choice(vocabulary)
        texts += [" ".join(words), " ".join(changed)]
    return texts


def planted(documents: int) -> None:
    """Print recall and precision of the planted pairs by bin of their exact similarity."""
    document = importlib.import_module("olmo_core.corpus.document")
    near = importlib.import_module("olmo_core.corpus.duplicates.near_duplicates")
    parquet = importlib.import_module("pyarrow.parquet")
    texts = planted_texts(documents)
    with tempfile.TemporaryDirectory() as scratch:
        write(document, Path(scratch), texts)
        job = importlib.import_module("olmo_core.run.job")
        with job.Job.open(Path(scratch) / "job") as run:
            near.make(near.NearDuplicateConfig(), {"raw": Path(scratch)}, run)
            table = parquet.read_table(run.folder / "clusters.parquet").to_pydict()
        ids = [each.id for each in document.read_folder(Path(scratch) / "documents")]
        starts = [0]
        for path in document.shards(Path(scratch) / "documents"):
            starts.append(starts[-1] + sum(1 for _ in document.read_documents(path)))
    number = [starts[p >> 32] + (p & (1 << 32) - 1) - 1 for p in table["place"]]
    first = [starts[p >> 32] + (p & (1 << 32) - 1) - 1 for p in table["cluster"]]
    text = {name: int(ids[name].split("/")[1]) for name in range(len(ids))}
    cluster = {text[n]: text[f] for n, f in zip(number, first, strict=True)}
    found: dict[int, list[bool]] = collections.defaultdict(list)
    chained = 0
    for n, f in cluster.items():
        one, other = shingles(texts[n]), shingles(texts[f])
        chained += len(one & other) < 0.7 * len(one | other)
    for n in range(0, len(texts), 2):
        one, other = shingles(texts[n]), shingles(texts[n + 1])
        similarity = len(one & other) / len(one | other)
        joined = cluster.get(n, n) == cluster.get(n + 1, n + 1)
        found[int(similarity * 20)].append(joined)
    print(f"planted: {len(texts)} documents, {len(cluster)} in clusters, {chained} by chaining")
    for bin_ in sorted(found):
        if bin_ >= 6:
            hits = found[bin_]
            print(f"  {bin_ / 20:.2f} and more: {len(hits):5} pairs, {sum(hits) / len(hits):.4f}")
    above = [hit for bin_, hits in found.items() if bin_ >= 16 for hit in hits]
    below = sum(hit for bin_, hits in found.items() if bin_ < 14 for hit in hits)
    joined = below + sum(hit for bin_, hits in found.items() if bin_ >= 14 for hit in hits)
    print(f"  recall from 0.8 on: {sum(above) / len(above):.4f} (bar: 0.95)")
    print(f"  precision against the threshold of 0.7: {1 - below / joined:.4f} (bar: 0.95)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=30, help="megabytes of text (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--planted", type=int, default=10_000, help="documents (default: 10,000)")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        contest(given.contestant, given.folder)
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), given.mb)
        rates: dict[str, list[float]] = collections.defaultdict(list)
        names = [*RIVALS, *RIVALS.values()]
        for turn in range(given.rounds):
            for name in names if turn % 2 else reversed(names):
                command = [sys.executable, __file__, f"--contestant={name}", f"--folder={folder}"]
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                size, seconds = map(float, done.stdout.split())
                rates[name].append(size / seconds)
                wall = time.perf_counter() - began
                print(f"  {name}: {size / seconds:.2f} MB/s, {wall:.1f} s in all", flush=True)
    for ours, rival in RIVALS.items():
        ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[rival], strict=True))
        both = (statistics.median(rates[name]) for name in (ours, rival))
        print(f"{ours}: {next(both):.2f} MB/s; {rival}: {next(both):.2f}", end="")
        print(f"; {ratio:.1f} times (bar: {BAR:.0f})")
    if given.planted:
        planted(given.planted)


if __name__ == "__main__":
    main()
