"""Attention within documents on this CPU: as `olmo_core.model.documents` computes it, against a mask.

examples:
  python benchmarks/document_attention.py                          two threads, two minutes
  python benchmarks/document_attention.py --length 2048 --heads 4

Forward and backward, float32, head size 64, documents of random lengths; medians of runs that take
turns. The mask is made once, outside of what is timed, as once for all layers.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from olmo_core.model.documents import attend, begins_of, document_mask
from olmo_core.train.host_memory import keep_freed_memory

HEAD_SIZE = 64
DOCUMENTS = (1, 4, 32)  # of an instance


def positions_of(instances: int, length: int, documents: int) -> Tensor:
    """Return each token's position within its document, (instances, length)."""
    begins = torch.zeros(instances, length, dtype=torch.int64)
    for row in begins:
        cuts = 1 + torch.randperm(length - 1)[: documents - 1]
        row[cuts] = cuts
    return torch.arange(length) - begins.cummax(dim=1).values


def milliseconds(function: Callable[..., Tensor], given: list[Tensor], direction: Tensor) -> float:
    """Return the time of one forward and backward."""
    start = time.perf_counter()
    torch.autograd.grad(function(*given), given, direction)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Print one line per shape and number of documents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--length", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    print(f"{'T':>5} {'B':>2} {'documents':>9} {'mask':>7} {'without':>7} ms  without/mask")
    for length in options.length:
        for instances in options.instances:
            for documents in DOCUMENTS:
                begins = begins_of(positions_of(instances, length, documents))
                mask = document_mask(begins, instances, length)
                shape = (instances, length, options.heads, HEAD_SIZE)  # as the products lay it out
                *given, direction = (torch.randn(shape).transpose(1, 2) for _ in range(4))
                for x in given:
                    x.requires_grad_()
                pairs: list[tuple[float, float]] = []
                for _ in range(options.rounds):
                    pairs.append(
                        (
                            milliseconds(
                                lambda q, k, v, mask=mask: F.scaled_dot_product_attention(
                                    q, k, v, mask
                                ),
                                given,
                                direction,
                            ),
                            milliseconds(
                                lambda q, k, v, begins=begins: attend(q, k, v, begins),
                                given,
                                direction,
                            ),
                        )
                    )
                by_mask, without = (statistics.median(each) for each in zip(*pairs, strict=True))
                print(
                    f"{length:5} {instances:2} {documents:9} {by_mask:7.0f} {without:7.0f} "
                    f"{without / by_mask:13.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
