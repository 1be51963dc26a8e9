"""Drawing the first weights of one rank: its own share, against every whole weight.

examples:
  python benchmarks/first_weights.py               one layer of OLMo 2 1B, 16 shards; seconds
  python benchmarks/first_weights.py --shards=64

In turns, in CPU-seconds of one thread: each whole weight by torch's `trunc_normal_` (as OLMo does
on every rank), all rows by ours, and the rows of one of so many shards by ours. Bar: a share takes
at most a tenth of torch's time for all. The embedding is cut to 8,192 rows, which changes no ratio.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from olmo_core.config.model import ModelConfig
from olmo_core.model.init import all_rows, initialise
from olmo_core.model.transformer import Transformer

BAR = 10.0
SHAPE = ModelConfig(
    d_model=2048,
    n_heads=16,
    n_layers=1,
    mlp_hidden_size=16_384,
    layer_norm_type="rms",
    attention_layer_norm=True,
    norm_after=True,
    rope=True,
    attention_dropout=0.0,
    residual_dropout=0.0,
    embedding_dropout=0.0,
    include_bias=False,
    vocab_size=8192,
    embedding_size=8192,
    weight_tying=False,
    init_cutoff_factor=3.0,
)


def by_torch(model: Transformer) -> None:
    """Every whole matrix, as OLMo draws it."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.06, b=0.06, generator=generator)


def share(shards: int) -> Callable[[nn.Parameter], tuple[int, Tensor]]:
    """The rows that FSDP gives a rank in the middle."""

    def held(parameter: nn.Parameter) -> tuple[int, Tensor]:
        size = -(-len(parameter) // shards)
        first = shards // 2 * size
        return first, parameter[first : first + size]

    return held


def main() -> int:
    """Measure; exit status 1 where the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.device("meta"):
        model = Transformer(SHAPE)
    model.to_empty(device="cpu")
    weights = sum(parameter.numel() for parameter in model.parameters())
    kinds: dict[str, tuple[Callable[[], None], float]] = {
        "torch, all": (lambda: by_torch(model), weights),
        "ours, all": (lambda: initialise(model, 1, all_rows), weights),
        f"ours, 1 of {options.shards}": (
            lambda: initialise(model, 1, share(options.shards)),
            weights / options.shards,
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(options.rounds):
        for name, (draw, _) in kinds.items():
            start = time.process_time()
            draw()
            seconds[name].append(time.process_time() - start)
    print(
        f"{platform.processor() or platform.machine()}, one thread, torch {torch.__version__}; "
        f"{weights / 1e6:.0f} M weights, median of {options.rounds}"
    )
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, (_, drawn) in kinds.items():
        print(f"{name:<16}{medians[name]:>8.2f} s{drawn / medians[name] / 1e6:>10.0f} M a second")
    names = list(kinds)
    ratio = medians[names[0]] / medians[names[2]]
    print(
        f"{ratio:.1f} times less for a rank; bar {BAR:.0f}: {'met' if ratio >= BAR else 'MISSED'}"
    )
    return int(ratio < BAR)


if __name__ == "__main__":
    sys.exit(main())
