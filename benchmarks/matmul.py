"""Float32 matrix products on this CPU: oneDNN, as `olmo_core.model.linear` calls it, against MKL.

examples:
  python benchmarks/matmul.py                 one thread and two, a minute
  python benchmarks/matmul.py --threads 8

Both multiply the same matrices (M, K) and (K, N) in turn; GFLOP/s are medians, and the ratio is the
median of oneDNN's time over torch's in a round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from olmo_core.train.host_memory import keep_freed_memory

# Blocks of the demo's and the 20M shape, the loss's three products, larger ones.
SHAPES = (
    (2048, 64, 192),
    (2048, 256, 1024),
    (2048, 1024, 256),
    (2048, 4192, 64),
    (64, 2048, 4192),
    (2048, 4192, 256),
    (2048, 2048, 512),
    (512, 2048, 2048),
    (512, 4096, 2048),
    (2048, 8192, 512),
    (1024, 1024, 1024),
)
ROUNDS = 12
SECONDS = 0.01  # that a round's products take at least, by the slower of them


def by_onednn(a: Tensor, b: Tensor) -> Tensor:
    """Return a b by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")


def by_torch(a: Tensor, b: Tensor) -> Tensor:
    """Return a b by torch's own product."""
    return a @ b


def seconds(
    multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, times: int
) -> float:
    """Return the seconds that one product takes, of so many."""
    start = time.perf_counter()
    for _ in range(times):
        multiply(a, b)
    return (time.perf_counter() - start) / times


def main() -> None:
    """Print one line per shape and number of threads."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    threads = parser.parse_args().threads
    keep_freed_memory()
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"{'threads':>7} {'M, K, N':>18} {'torch':>6} {'oneDNN':>6} GFLOP/s  oneDNN/torch, time")
    for count in threads:
        torch.set_num_threads(count)
        for m, k, n in SHAPES:
            a, b = torch.randn(m, k), torch.randn(k, n)
            times = 1 + int(SECONDS / max(seconds(by_torch, a, b, 1), seconds(by_onednn, a, b, 1)))
            pairs = [
                (seconds(by_torch, a, b, times), seconds(by_onednn, a, b, times))
                for _ in range(ROUNDS)
            ]
            pace = [2e-9 * m * k * n / statistics.median(each) for each in zip(*pairs, strict=True)]
            ratio = statistics.median(onednn / plain for plain, onednn in pairs)
            print(f"{count:7} {f'{m}, {k}, {n}':>18} {pace[0]:6.0f} {pace[1]:6.0f} {ratio:16.2f}")


if __name__ == "__main__":
    main()
