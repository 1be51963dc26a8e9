"""How fast document and attribute files are read: MB of text per CPU-second, and a ratio.

examples:
  python benchmarks/read_documents.py             three files of 30 MB, 7 rounds: a minute
  python benchmarks/read_documents.py --mb=5 --rounds=3
  python benchmarks/read_documents.py --file=part-00000.jsonl.gz

Contestants take turns on the same file, in one process: `read_documents` and `read_attributes`,
against the same checks by the standard library's gzip and json, as they were before. Figures are
medians; the ratio is the median of a round's ratios. Bar: 2.5 times the rate.
"""

import argparse
import gzip
import importlib
import json
import platform
import random
import re
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

BAR = 2.5
LATIN, CYRILLIC = "etaoinshrdlu", "оеаинтслвркд"


def code(megabytes: float) -> Iterator[str]:
    """Yield functions and classes of the standard library."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    random.Random(0).shuffle(paths)
    size = 0
    for path in paths:
        for part in re.split(
            r"\n\n\n(?=def |class )", path.read_text(encoding="utf-8", errors="replace")
        ):
            if part.strip() and size < megabytes * 1e6:
                size += len(part.encode())
                yield part


def prose(megabytes: float) -> Iterator[str]:
    """Yield texts of made-up words, a quarter of them not ASCII, in lines and paragraphs."""
    chance = random.Random(0)
    words = ["".join(chance.choices(LATIN, k=chance.randint(2, 9))) for _ in range(15_000)]
    words += ["".join(chance.choices(CYRILLIC, k=chance.randint(2, 9))) for _ in range(5_000)]
    ends = [" "] * 60 + [", "] * 6 + [". "] * 5 + [".\n"] * 2 + ['." ', "\n\n"]
    size = 0
    while size < megabytes * 1e6:
        count = chance.randint(50, 800)
        pairs = zip(chance.choices(words, k=count), chance.choices(ends, k=count), strict=True)
        text = "".join(word + end for word, end in pairs)
        size += len(text.encode())
        yield text


def spans(megabytes: float) -> Iterator[dict[str, Any]]:
    """Yield attributes of documents: spans with scores, as the toolkit's taggers write them."""
    chance = random.Random(0)
    for _ in range(int(megabytes * 1e6 / 1900)):
        places = sorted(chance.sample(range(4000), 40))
        found = [[start, end, chance.random()] for start, end in pairwise(places)]
        yield {"tags__c4_v2__lines": found, "tags__gopher_v2__word_count": [[0, 4000, 700]]}


def former_rows(path: Path) -> Iterator[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise ValueError(name)

    with gzip.open(path, "rb") as lines:
        for line in lines:
            if not line.strip():
                raise ValueError("blank line")
            row = json.loads(line.decode(), parse_constant=refuse)
            if not isinstance(row, dict):
                raise ValueError("no object")
            yield row


def former_documents(path: Path) -> Iterator[Any]:
    document = importlib.import_module("olmo_core.corpus.document")
    for number, row in enumerate(former_rows(path), start=1):
        where = f"{path}:{number}"
        for key in ("id", "text", "source"):
            if key not in row or not isinstance(row[key], str):
                raise ValueError(where)
            row[key].encode()
        if not row["text"].strip() or not isinstance(row.get("metadata"), dict | None):
            raise ValueError(where)
        yield document.Document(
            id=row["id"],
            text=row["text"],
            source=row["source"],
            added=row.get("added", document.UNDATED),
            created=row.get("created", document.UNDATED),
            metadata=row.get("metadata") or {},
        )


def former_attributes(path: Path) -> Iterator[tuple[str, Any]]:
    for row in former_rows(path):
        if not isinstance(row.get("id"), str) or not isinstance(row.get("attributes"), dict):
            raise ValueError(path)
        yield row["id"], row["attributes"]


def seconds(read: Callable[[Path], Iterator[Any]], path: Path) -> float:
    began = time.process_time()
    for _ in read(path):
        pass
    return time.process_time() - began


def measure(
    name: str,
    path: Path,
    contestants: tuple[Callable[[Path], Iterator[Any]], Callable[[Path], Iterator[Any]]],
    rounds: int,
) -> float:
    """Print the rates of both and their ratio; return this."""
    ours, former = contestants
    assert all(one == other for one, other in zip(ours(path), former(path), strict=True))
    with gzip.open(path, "rb") as lines:
        megabytes = sum(map(len, lines)) / 1e6
    pairs = [(seconds(ours, path), seconds(former, path)) for _ in range(rounds)]
    rates = [megabytes / statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = statistics.median(other / one for one, other in pairs)
    print(
        f"{name:<22} {megabytes:6.1f} {rates[0]:8.1f} {rates[1]:8.1f} {ratio:6.2f}"
        f"  {'met' if ratio >= BAR else 'MISSED'}",
        flush=True,
    )
    return ratio


def main() -> int:
    """Write the files, let the contestants take turns; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=30, help="of each file (30)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--file", type=Path, help="a document file in place of those")
    options = parser.parse_args()
    document = importlib.import_module("olmo_core.corpus.document")
    rows = importlib.import_module("olmo_core.corpus.rows")
    documents = (document.read_documents, former_documents)
    attributes = (document.read_attributes, former_attributes)
    print(f"{platform.machine()}, Python {platform.python_version()}; MB of lines per CPU-second")
    print(f"{'file':<22} {'MB':>6} {'ours':>8} {'former':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        files = {"documents": options.file} if options.file else {}
        for name, texts in () if options.file else (("code", code), ("prose", prose)):
            files[f"documents of {name}"] = path = Path(folder) / f"{name}.jsonl.gz"
            made = enumerate(texts(options.mb))
            document.write_documents(
                path,
                (
                    document.Document(
                        id=f"{name}/{n}", text=text, source=name, metadata={"file": "a", "line": n}
                    )
                    for n, text in made
                ),
            )
        ratios = [measure(name, path, documents, options.rounds) for name, path in files.items()]
        if not options.file:
            path = Path(folder) / "attributes.jsonl.gz"
            found = enumerate(spans(options.mb))
            rows.write_rows(path, ({"id": f"a/{n}", "attributes": each} for n, each in found))
            ratios.append(measure("attributes", path, attributes, options.rounds))
    return int(min(ratios) < BAR)


if __name__ == "__main__":
    sys.exit(main())
