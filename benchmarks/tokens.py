"""How fast documents become tokens against dolma's, and what a window of them holds.

examples:
  python benchmarks/tokens.py --filtered=RUN --tokenizer=allenai_dolma2.json --vocab_size=100278
  python benchmarks/tokens.py --filtered=RUN --tokenizer=… --vocab_size=50280 --rounds=3
  python benchmarks/tokens.py --windows=RUN                       of a run folder of `tokens`

RUN is a run folder of the asset `filtered`. Our job `tokens` and `dolma tokens`, each in a process
of its own, take turns on the same documents; the figure is tokens per CPU-second of all threads,
less what the same command takes for one document (imports, the tokenizer). Medians over the rounds.
The ids of every document, as dolma strips it, must be equal. Bar: 5 times dolma's.

`--windows` says which share of the windows holds text of one package only, which is what stands
behind the first slash of a document's id.
"""

import argparse
import csv
import gzip
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
WINDOW_TOKENS = 2048
BAR = 5.0
DTYPES = {"uint16": "<u2", "uint32": "<u4"}


def cpu_seconds(command: list[str], log: Path, **environment: str) -> float:
    """Return what a command and its children took of CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as out:
        done = subprocess.run(
            command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, **environment}
        )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {log.read_text(errors='replace')[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(job: str, folder: Path, config: dict[str, object], inputs: dict[str, str]) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"config": config, "inputs": inputs}))
    command = [sys.executable, "-m", f"olmo_core.corpus.tokens.{job}", str(folder / "config.yaml")]
    return cpu_seconds(command, folder / "output.txt", OLMO_PROCESSES="1")


def dolmas(documents: Path, folder: Path, options: argparse.Namespace, special: list[int]) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "nltk" / "tokenizers" / "punkt").mkdir(parents=True)
    command = [
        *(str(options.dolma), "tokens", f"--documents={documents}/*/*.gz", "--processes=1"),
        *(f"--destination={folder / 'out'}", f"--dtype={options.dtype}", "--seed=0"),
        f"--tokenizer.name_or_path={options.tokenizer}",
        *(f"--tokenizer.eos_token_id={special[0]}", f"--tokenizer.pad_token_id={special[1]}"),
    ]
    nltk = str(folder / "nltk")
    return cpu_seconds(
        command, folder / "output.txt", NLTK_DATA=nltk, RAYON_NUM_THREADS="1", HF_HUB_OFFLINE="1"
    )


def documents_of(folder: Path, dtype: str) -> dict[str, bytes]:
    """Return the ids of each document of all token files below a folder, as bytes."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*.npy")):
        ids = np.fromfile(path, DTYPES[dtype])
        for start, end, name, *_ in rows(path):
            found[name] = ids[int(start) : int(end)].tobytes()
    return found


def rows(path: Path) -> Iterator[list[str]]:
    with gzip.open(path.with_suffix(".csv.gz"), "rt", newline="", encoding="utf-8") as lines:
        yield from csv.reader(lines)


def one_document(filtered: Path, folder: Path) -> Path:
    """Write a `filtered` run of the first document of the first file."""
    first = next(iter(sorted(filtered.rglob("*.jsonl.gz"))))
    target = folder / "documents" / first.parent.name / first.name
    target.parent.mkdir(parents=True)
    with gzip.open(first, "rb") as lines, gzip.open(target, "wb") as out:
        out.write(next(iter(lines)))
    (folder / "result.json").write_text('{"digest": "of one document"}')
    return folder


def compare(options: argparse.Namespace, work: Path) -> bool:
    filtered = Path(options.filtered).resolve()
    section = {
        "file": str(options.tokenizer.resolve()),
        "vocab_size": options.vocab_size,
        "pad_token": options.pad_token,
    }
    tokenizer = work / "tokenizer"
    ours("tokenizer", tokenizer, section, {"filtered": str(filtered)})
    data = json.loads((tokenizer / "result.json").read_text())["report"]["data"]
    special = [data["eos_token_id"], data["pad_token_id"]]
    options.dtype = "uint16" if options.vocab_size <= 1 << 16 else "uint32"
    taken: dict[str, list[float]] = {"ours": [], "dolma": []}
    start: dict[str, list[float]] = {"ours": [], "dolma": []}
    few = one_document(filtered, work / "few")
    for _ in range(options.rounds):
        for found, source in ((start, few), (taken, filtered)):
            inputs = {"filtered": str(source), "tokenizer": str(tokenizer)}
            found["ours"].append(ours("tokens", work / "ours", {"strip": True}, inputs))
            found["dolma"].append(dolmas(source / "documents", work / "dolma", options, special))
    ids = documents_of(work / "ours", options.dtype)
    equal = ids == documents_of(work / "dolma", options.dtype)
    tokens = sum(map(len, ids.values())) // np.dtype(DTYPES[options.dtype]).itemsize
    rates = {
        name: round(tokens / statistics.median(np.subtract(taken[name], start[name])))
        for name in taken
    }
    report = json.loads((work / "ours" / "result.json").read_text())["report"]["numbers"]
    ratio = rates["ours"] / rates["dolma"]
    line = {
        "tokenizer": options.tokenizer.name,
        "documents": len(ids),
        "tokens": tokens,
        "tokens_per_cpu_second": rates,
        "ratio": round(ratio, 2),
        "whole_commands": {
            name: round(statistics.median(found), 1) for name, found in taken.items()
        },
        "encoded_by": report["encoded_by"],
        "ids_equal": equal,
    }
    print(json.dumps(line))
    return equal and ratio >= BAR


def package(name: str) -> str:
    """Return what a document's id says of its package: `numpy` of `docstrings/numpy.linalg.svd`."""
    part = name.split("/")[1]
    return re.split(r"[.#]|-\d", part, maxsplit=1)[0]


def windows(run: Path) -> None:
    for source in sorted(path for path in (run / "tokens").iterdir()):
        alone = Counter[bool]()
        for path in sorted(source.glob("*.npy")):
            held: dict[int, set[str]] = {}
            end = 0
            for first, last, name, *_ in rows(path):
                end = int(last)
                for window in range(int(first) // WINDOW_TOKENS, (end - 1) // WINDOW_TOKENS + 1):
                    held.setdefault(window, set()).add(package(name))
            alone.update(len(held[window]) == 1 for window in range(end // WINDOW_TOKENS))
        share = alone[True] / max(1, alone.total())
        line = {"source": source.name, "windows": alone.total(), "one_package": round(share, 3)}
        print(json.dumps(line))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--filtered", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="a released tokenizer.json")
    parser.add_argument("--vocab_size", type=int, help="its highest id and one")
    parser.add_argument("--pad_token", default="<|pad|>")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dolma", type=Path, default=ROOT / ".venv-dolma" / "bin" / "dolma")
    parser.add_argument("--windows", type=Path)
    options = parser.parse_args()
    if options.windows:
        windows(options.windows)
        return 0
    with tempfile.TemporaryDirectory() as work:
        return 0 if compare(options, Path(work)) else 1


if __name__ == "__main__":
    sys.exit(main())
