"""A training step on a CPU: ours against transformers and AI2's ai2-olmo-core, f32, AdamW.

examples:
  python benchmarks/train_step.py                          both shapes against all bars, 6 minutes
  python benchmarks/train_step.py --shapes=20M --rounds=5
  python benchmarks/train_step.py --peer_python=            without ai2-olmo-core

`make peer` makes the environment with ai2-olmo-core that --peer_python names by default; the name
of its package is also ours, so it never shares one with this project. Contestants, each in a
process of its own, take turns step by step: so each has its own peak memory, and a machine that
slows down slows all. One step is one microbatch of 4096 tokens: gradients, clipping, fused AdamW.
All have the same weights, tokens and loss (cross-entropy; transformers has no z-loss), and the
first losses must agree. Ours is set up as `olmo_core.train` does it; its best configuration, which
the bars are about, is compiled by block. Medians over the rounds; ratios are medians of the ratios
of a round.
Bars: at least 1.3 times transformers and 1.15 times ai2-olmo-core compiled in tokens per second, at
most 0.8 times transformers' peak memory.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "20M": {"d_model": 256, "n_heads": 8, "n_layers": 8, "feed_forward_size": 1024},
    "60M": {"d_model": 512, "n_heads": 8, "n_layers": 8, "feed_forward_size": 2048},
    "tiny": {"d_model": 64, "n_heads": 2, "n_layers": 2, "feed_forward_size": 256},
}
OURS, TRANSFORMERS, PEER = "ours, compiled", "transformers", "ai2-olmo-core, compiled"
# The eager peer is for orientation: timed once, so that the bars get the time.
ONCE = "ai2-olmo-core"
CONTESTANTS = (TRANSFORMERS, PEER, "ours", OURS, ONCE)
BARS = {TRANSFORMERS: 1.3, PEER: 1.15}  # tokens per second, ours over theirs
MEMORY_BAR = 0.8  # peak, ours over transformers'
LOSS_TOLERANCE = 1e-5  # relative, of the first losses


class Contestant:
    """A process that makes a step when it is asked."""

    def __init__(self, name: str, python: str, shape: dict[str, Any]) -> None:
        self.name = name
        theirs = name.startswith("ai2")
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        if not theirs:
            environ["PYTHONPATH"] = str(ROOT)
        worker = str(Path(__file__).with_name("train_step_contestant.py"))
        self._process = subprocess.Popen(
            [python, worker, name, json.dumps(shape)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        self.answers: list[dict[str, float]] = []

    def ask(self, line: object) -> None:
        """Send a line; the answer is read by `read`."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def read(self) -> dict[str, Any]:
        """Wait for the answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with status {self._process.wait()}")
        return json.loads(line)

    def step(self, number: int) -> dict[str, float]:
        """Make a step and keep what it took."""
        self.ask(number)
        self.answers.append(self.read())
        return self.answers[-1]

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def flops_per_token(shape: dict[str, Any]) -> int:
    """6 a parameter outside the input table, and causal attention."""
    d, layers = shape["d_model"], shape["n_layers"]
    blocks = layers * (4 * d * d + 3 * d * shape["feed_forward_size"])
    return 6 * (blocks + d * shape["vocab_size"]) + 6 * layers * d * shape["sequence_length"]


def measure(shape: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Let the contestants take turns; their medians, and ours over each."""
    deadline = time.monotonic() + arguments.minutes * 60 / len(arguments.shapes)
    named = [name for name in CONTESTANTS if arguments.peer_python or not name.startswith("ai2")]
    contestants = {
        name: Contestant(
            name, arguments.peer_python if name.startswith("ai2") else sys.executable, shape
        )
        for name in named
    }
    try:
        versions = {
            key: value for each in contestants.values() for key, value in each.read().items()
        }
        first = warm_up(contestants)
        rounds, flops = 0, []
        while rounds < arguments.rounds and (rounds < 2 or time.monotonic() < deadline):
            rounds += 1
            for name, contestant in contestants.items():
                if name != ONCE or rounds == 1:
                    contestant.step(1 + rounds)
            contestants[OURS].ask("matmul")
            flops.append(contestants[OURS].read()["flops_per_second"])
    finally:
        for contestant in contestants.values():
            contestant.close()
    tokens = shape["microbatch_tokens"]
    timed = {name: each.answers[1:] for name, each in contestants.items()}
    best = statistics.median(flops)
    return {
        "versions": versions,
        "first_losses": first,
        "rounds": rounds,
        "matmul_gflops": best / 1e9,
        "contestants": {
            name: {
                "tokens_per_second": (speed := tokens / median(answers, "seconds")),
                "tokens_per_cpu_second": tokens / median(answers, "cpu_seconds"),
                "of_matmul": speed * flops_per_token(shape) / best,
                "peak_bytes": answers[-1]["peak_bytes"],
                "over_transformers": ratio(timed[TRANSFORMERS], answers),
                "ours_over_it": ratio(answers, timed[OURS]),
            }
            for name, answers in timed.items()
        },
    }


def warm_up(contestants: dict[str, Contestant]) -> dict[str, float]:
    """Each one's first step, those that compile at once; their losses, which must agree."""
    compiled = [each for name, each in contestants.items() if name.endswith("compiled")]
    for each in compiled:
        each.ask(1)
    for each in compiled:
        each.answers.append(each.read())
    for each in contestants.values():
        if each not in compiled:
            each.step(1)
    losses = {name: each.answers[0]["loss"] for name, each in contestants.items()}
    wanted = losses[TRANSFORMERS]
    if any(abs(loss - wanted) > LOSS_TOLERANCE * wanted for loss in losses.values()):
        raise SystemExit(f"the first losses do not agree: {losses}")
    return losses


def median(answers: list[dict[str, float]], key: str) -> float:
    """Of a figure, over the rounds."""
    return statistics.median(answer[key] for answer in answers)


def ratio(theirs: list[dict[str, float]], ours: list[dict[str, float]]) -> float:
    """How many times as fast as `theirs` are `ours`: the median over the rounds both took."""
    pairs = zip(theirs, ours, strict=False)
    return statistics.median(their["seconds"] / our["seconds"] for their, our in pairs)


def report(name: str, found: dict[str, Any]) -> bool:
    """Print one shape's table; whether its bars are met."""
    print(f"\n{name}: {found['rounds']} rounds, f32 matmul {found['matmul_gflops']:.0f} GFLOP/s")
    print(f"{'':26}{'tokens/s':>9}{'ratio':>7}{'matmul':>8}{'peak GiB':>10}{'a CPU-s':>9}")
    for contestant, row in found["contestants"].items():
        print(
            f"{contestant:26}{row['tokens_per_second']:9.0f}{row['over_transformers']:7.2f}"
            f"{row['of_matmul']:8.0%}{row['peak_bytes'] / 2**30:10.2f}"
            f"{row['tokens_per_cpu_second']:9.0f}"
        )
    rows = found["contestants"]
    memory = rows[OURS]["peak_bytes"] / rows[TRANSFORMERS]["peak_bytes"]
    met = memory <= MEMORY_BAR
    print(f"peak memory {memory:.2f} of transformers' (bar {MEMORY_BAR})")
    for peer, bar in BARS.items():
        if peer in rows:
            faster = rows[peer]["ours_over_it"]
            met = met and faster >= bar
            print(f"{OURS}: {faster:.2f} times {peer} (bar {bar})")
    return met


def main() -> int:
    """Measure and print; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peer = ROOT / ".venv-peer/bin/python"
    parser.add_argument("--shapes", default="20M,60M", help=", ".join(SHAPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequence_length", type=int, default=1024)
    parser.add_argument("--microbatch_tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3, help="at most; two at least")
    parser.add_argument("--minutes", type=float, default=5.0, help="begin no round after them")
    parser.add_argument(
        "--peer_python", default=str(peer) if peer.exists() else "", help="has ai2-olmo-core"
    )
    parser.add_argument("--json", action="store_true", help="figures alone, as JSON")
    arguments = parser.parse_args()
    arguments.shapes = arguments.shapes.split(",")
    found: dict[str, Any] = {}
    for name in arguments.shapes:
        shape = {
            **SHAPES[name],
            "vocab_size": 50_304,
            "threads": arguments.threads,
            "sequence_length": arguments.sequence_length,
            "microbatch_tokens": arguments.microbatch_tokens,
        }
        found[name] = measure(shape, arguments)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    versions = ", ".join(f"{key} {value}" for key, value in found[name]["versions"].items())
    print(f"{processor()}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}; {versions}")
    met = [report(name, found[name]) for name in arguments.shapes]
    if not arguments.peer_python:
        print("\nai2-olmo-core: not measured; `make peer` makes its environment")
    return 0 if all(met) else 1


def processor() -> str:
    """The processor's own name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
