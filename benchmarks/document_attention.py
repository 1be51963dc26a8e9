"""Attention within documents on this CPU, by `olmo_core.model.documents` and by a mask.

examples:
  python benchmarks/document_attention.py                          two threads, two minutes
  python benchmarks/document_attention.py --length 2048 --heads 4

Forward and backward, float32, head size 64, documents of random lengths; medians of runs that take
turns. The mask is made once, outside of what is timed, as once for all layers.
"""

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from olmo_core.model.documents import attend, cu_doc_lens_of, document_mask
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
    for length, instances, documents in itertools.product(
        options.length, options.instances, DOCUMENTS
    ):
        cu_doc_lens = cu_doc_lens_of(positions_of(instances, length, documents))
        by_mask = functools.partial(
            F.scaled_dot_product_attention, attn_mask=document_mask(cu_doc_lens, instances, length)
        )
        without = functools.partial(attend, cu_doc_lens=cu_doc_lens)
        shape = (instances, length, options.heads, HEAD_SIZE)  # as the products lay it out
        *given, direction = (torch.randn(shape).transpose(1, 2) for _ in range(4))
        for x in given:
            x.requires_grad_()
        rounds = [
            [milliseconds(function, given, direction) for function in (by_mask, without)]
            for _ in range(options.rounds)
        ]
        mask, ours = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(
            f"{length:5} {instances:2} {documents:9} {mask:7.0f} {ours:7.0f} {ours / mask:16.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
