"""How fast batches are read: tokens a CPU-second of all threads, page cache hot.

examples:
  python benchmarks/loader.py                                     both bars, about a minute
  python benchmarks/loader.py --peer_python=                      without AI2's loader
  python benchmarks/loader.py --dtype=uint16

Contestants, each in a process of its own, take turns: our loader as the trainer uses it, a plain
loop over numpy memory maps, and AI2's dataset with its data loader, where `--peer_python` is the
Python of an environment with `ai2-olmo-core` (`make peer` makes one). Medians over the rounds;
ratios are medians of the ratios of a round.
Bars: 100 M tokens a CPU-second plain, 15 M with the repetition filter.

The tokens are the standard library's source, split as GPT-2 splits text, numbered by frequency: the
repetitions (indentation, ruled lines, tables) are those of real files, which random ids have not.
"""

import argparse
import collections
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

BARS = {"plain": 100.0, "filter": 15.0}  # million tokens a CPU-second
TASKS = {
    "plain": {},
    "filter": {"filter": True},
    "documents": {"documents": True},
}
EOS, VOCAB_SIZE, FILES = 0, 50_304, 8
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?[^\s\w]+|\s+(?!\S)|\s+|_+")


def write_tokens(folder: Path, dtype: str, tokens: int) -> list[str]:
    """Token files of about `tokens` in all: the documents again and again, in another order."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sources[:1500]]
    words = [SPLIT.findall(text) for text in texts]
    counts = collections.Counter(word for document in words for word in document)
    # Rare words share the ids at the end, as their pieces would.
    number = {
        word: 2 + rank % (VOCAB_SIZE - 2) for rank, (word, _) in enumerate(counts.most_common())
    }
    documents = [np.array([*map(number.get, document), EOS], dtype) for document in words]
    paths: list[str] = []
    shuffle = random.Random(0)
    for file in range(FILES):
        paths.append(str(folder / f"{file}.npy"))
        with open(paths[-1], "wb") as out:
            while out.tell() < tokens // FILES * np.dtype(dtype).itemsize:
                shuffle.shuffle(documents)
                for document in documents:
                    out.write(document.tobytes())
    return paths


class Contestant:
    """A process of `loader_contestant.py`."""

    def __init__(self, python: str, name: str, settings: dict[str, Any]) -> None:
        script = Path(__file__).with_name("loader_contestant.py")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if name == "ours":
            environment["PYTHONPATH"] = str(script.parents[1])
        self.name, self.rates = name, list[float]()
        self.process = subprocess.Popen(
            [python, str(script), name, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=settings["work"],
        )
        self.versions = str(self._answer()["ready"])

    def turn(self, seconds: float) -> None:
        """Read for about `seconds` CPU-seconds."""
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)
        answer = self._answer()
        self.rates.append(answer["tokens"] / answer["cpu"] / 1e6)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):
            line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"contestant {self.name} ended with {self.process.wait()}")
        return json.loads(line)


def compare(task: str, pythons: dict[str, str], settings: dict[str, Any], rounds: int) -> bool:
    """Run one task, print a row a contestant; whether the bar is met."""
    contestants = [
        Contestant(python, name, settings | TASKS[task])
        for name, python in pythons.items()
        if task == "plain" or name != "numpy"
    ]
    for turn in range(rounds):
        first = turn % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            contestant.turn(0.5)
    reference = contestants[0]
    for contestant in contestants:
        ratios = [one / other for one, other in zip(reference.rates, contestant.rates, strict=True)]
        ratio = "" if contestant is reference else f"ours is {statistics.median(ratios):.2f}×"
        rate, spread = statistics.median(contestant.rates), sorted(contestant.rates)
        print(
            f"{task:<10} {contestant.name:<14}{rate:>9.1f}   {spread[0]:.1f}…{spread[-1]:.1f}"
            f"   {ratio:<16} {contestant.versions if task == 'plain' else ''}"
        )
        contestant.close()
    met = statistics.median(reference.rates) >= BARS.get(task, 0.0)
    if task in BARS:
        print(f"{'':<10} bar: at least {BARS[task]:.0f}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Run all tasks; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peer = Path(__file__).parents[1] / ".venv-peer/bin/python"
    parser.add_argument(
        "--peer_python", default=str(peer) if peer.exists() else "", help="has ai2-olmo-core"
    )
    parser.add_argument("--dtype", choices=("uint16", "uint32"), default="uint32")
    parser.add_argument("--sequence_length", type=int, default=4096)
    parser.add_argument("--batch_size", type=int, default=64, help="instances (default: 64)")
    parser.add_argument("--tokens", type=float, default=64e6, help="of the data (default: 64e6)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    pythons = {"ours": sys.executable, "numpy": sys.executable}
    if options.peer_python:
        pythons["ai2-olmo-core"] = options.peer_python
    met = True
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="olmo-loader-") as folder:
        paths = write_tokens(Path(folder), options.dtype, int(options.tokens))
        size = sum(os.path.getsize(path) for path in paths)
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; "
            f"{size / 1e6:.0f} MB of {options.dtype} in {len(paths)} files, sequence "
            f"{options.sequence_length}, batches of {options.batch_size}\n"
            f"{'':<10} {'':<14}M tokens a CPU-second, median and range of {options.rounds}"
        )
        settings = {
            "paths": paths,
            "dtype": options.dtype,
            "sequence_length": options.sequence_length,
            "batch_size": options.batch_size,
            "eos_token_id": EOS,
            "vocab_size": VOCAB_SIZE,
            "filter": False,
            "documents": False,
            "work": folder,
        }
        for task in TASKS:
            met &= compare(task, pythons, settings, options.rounds)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
