"""What every part's process has: its shape, its device, a clock, and the lines that it prints.

Imports nothing of olmo_core: in the peer's process that is another package.
"""

import contextlib
import gc
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# OLMo 2 1B, whose step is four microbatches of 16 k tokens; a model that a GPU trains in a minute;
# and one that a CPU steps in a second.
SHAPES = {
    "1B": {
        "d_model": 2048,
        "n_heads": 16,
        "n_layers": 16,
        "feed_forward_size": 8192,
        "vocab_size": 100_352,
        "sequence_length": 4096,
        "microbatch_size": 4,
        "microbatches": 4,
        "steps": 10,
    },
    "40M": {
        "d_model": 512,
        "n_heads": 8,
        "n_layers": 8,
        "feed_forward_size": 2048,
        "vocab_size": 8192,
        "sequence_length": 512,
        "microbatch_size": 4,
        "microbatches": 2,
        "steps": 10,
    },
    "small": {
        "d_model": 64,
        "n_heads": 2,
        "n_layers": 2,
        "feed_forward_size": 256,
        "vocab_size": 1024,
        "sequence_length": 128,
        "microbatch_size": 2,
        "microbatches": 2,
        "steps": 3,
    },
}
BATCHES, DOCUMENT = 4, 700  # of a step's data: how many, and the tokens of a document
EOS = 0
Z_LOSS = 1e-5
LAST_LINES = 5  # of a traceback

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if CUDA else torch.device("cpu")
SMALL = json.loads(sys.argv[1])["small"] or not CUDA
SHAPE = SHAPES["small" if SMALL else "1B"]
CALLS = 10 if CUDA else 2  # of a round: the launch of a kernel is hidden behind the one before

_failed: list[str] = []


def say(what: str, **figures: Any) -> None:
    """Print a result as a JSON line, at once."""
    print(json.dumps({"what": what, **figures}), flush=True)


@contextlib.contextmanager
def case(what: str) -> Iterator[None]:
    """Say what goes wrong in the block, which ends it alone; `finish` remembers."""
    try:
        yield
    except Exception:
        say(what, error=traceback.format_exc().rstrip().splitlines()[-LAST_LINES:])
        _failed.append(what)


def say_checked(what: str, *, within: bool, **figures: Any) -> None:
    """Print a result that has a bound; `finish` remembers one that is not within it."""
    say(what, **figures, within=within)
    if not within:
        _failed.append(what)


def finish() -> None:
    """Let the part fail if a case has."""
    if _failed:
        raise SystemExit(f"failed, or not within its bound: {'; '.join(_failed)}")


def milliseconds(
    function: Callable[[], object], *, calls: int = CALLS, rounds: int = 3, warm_up: int = 3
) -> float:
    """Return what a call takes, the median of rounds; the device is waited for between them."""
    for _ in range(warm_up):
        function()
    found: list[float] = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronize()
        found.append(1e3 * (time.perf_counter() - start) / calls)
    return statistics.median(found)


def draw_tokens(shape: Mapping[str, Any], batches: int, *, document: int) -> np.ndarray:
    """Return tokens (uint32) of a language that can be learned: each has four successors.

    Documents end in EOS and have lengths around `document`.
    """
    rng = np.random.default_rng(0)
    count = batches * shape["microbatches"] * shape["microbatch_size"] * shape["sequence_length"]
    successors = rng.integers(1, shape["vocab_size"], (shape["vocab_size"], 4)).tolist()
    # one more than is returned: the bounds of `parity` were tried with what this draws
    choices = rng.integers(0, 4, count + 1).tolist()
    ends = (rng.random(count + 1) < 1 / document).tolist()
    tokens = [1]
    for choice, end in zip(choices[1:], ends[1:], strict=True):
        tokens.append(EOS if end else successors[tokens[-1]][choice])
    return np.array(tokens[:count], dtype="<u4")


def draw(model: torch.nn.Module) -> None:
    """Draw first weights on the model's device: normal ones, and 1 for norms."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(std=0.02)


def synchronize() -> None:
    """Wait for the device."""
    if CUDA:
        torch.cuda.synchronize()


def say_speed(
    step: Callable[[int], Tensor], *, flops_per_token: int = 0, peak_flops: float | None = None
) -> None:
    """Make the shape's steps and say their speed; the device is waited for once at each end.

    The first step compiles, two more warm up. `step` takes a step's number and returns its loss.
    """
    reset_peak_memory()
    start = time.perf_counter()
    first = step(0).item()
    compiling = time.perf_counter() - start
    for number in (1, 2):
        step(number)
    synchronize()
    start = time.perf_counter()
    for number in range(3, 3 + SHAPE["steps"]):
        loss = step(number)
    last = loss.item()
    seconds = (time.perf_counter() - start) / SHAPE["steps"]
    tokens = SHAPE["microbatches"] * SHAPE["microbatch_size"] * SHAPE["sequence_length"]
    say(
        "speed",
        tokens_per_second=tokens / seconds,
        mfu=peak_flops and tokens / seconds * flops_per_token / peak_flops,
        peak_flops=peak_flops,
        ms_per_step=1e3 * seconds,
        tokens_per_step=tokens,
        compile_seconds=compiling - seconds,
        first_loss=first,
        last_loss=last,
        peak_gib=peak_gib(),
    )


def reset_peak_memory() -> None:
    """Free what nobody holds on the device, and forget what has been allocated there before."""
    gc.collect()  # a compiled block refers to itself
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float | None:
    """Return the most memory that torch has held on the device; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if CUDA else None
