"""Stage `sharded`: FSDP, compiled, on one device, which a run of one rank goes without.

Everything but the traffic between ranks: hooks, DTensors, casts while gathering, sums in float32.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from ours import Training, batches_of, train_config, write_tokens
from stage import (
    CUDA,
    DEVICE,
    SHAPES,
    SMALL,
    case,
    finish,
    milliseconds,
    peak_gib,
    say,
    say_checked,
)
from torch import distributed as dist
from torch._C._distributed_c10d import HashStore

from olmo_core.config.train import TrainConfig
from olmo_core.parallel import prepare

SHAPE = SHAPES["small"]
if not SMALL:
    SHAPE = SHAPES["1B"] | {
        "d_model": 1024,
        "n_heads": 8,
        "n_layers": 4,
        "feed_forward_size": 4096,
        "vocab_size": 8192,
        "sequence_length": 2048,
        "microbatches": 2,
    }
STEPS = 3
BOUNDS = {"fp32": 1e-4, "amp_bf16": 2e-2}  # relative, of each step's loss


def main(tokens: Path) -> None:
    """Say how far the losses of both are apart, and what a step takes."""
    count = STEPS * SHAPE["microbatches"] * SHAPE["microbatch_size"] * SHAPE["sequence_length"]
    write_tokens(tokens, vocab_size=SHAPE["vocab_size"], count=count + 1, document=500)
    if CUDA:
        torch.cuda.set_device(DEVICE)
    backend = "cpu:gloo,cuda:nccl" if CUDA else "gloo"
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    is_sharded = prepare.is_sharded
    for precision, bound in BOUNDS.items():
        with case(precision):
            config = train_config(
                SHAPE, tokens, precision=precision, compiled=precision == "amp_bf16"
            )
            whole = losses_of("whole", config, is_sharded)
            sharded = losses_of("sharded", config, lambda config, world: True)
            apart = [abs(a - b) / b for a, b in zip(sharded, whole, strict=True)]
            say_checked(
                f"{precision}: sharded against whole",
                bound=bound,
                apart=apart,
                losses=[whole, sharded],
                within=all(each <= bound for each in apart),  # NaN is not
            )
    dist.destroy_process_group()


def losses_of(what: str, config: TrainConfig, is_sharded: Callable[..., bool]) -> list[float]:
    """Return the losses of some steps; what `prepare` asks is answered for it."""
    prepare.is_sharded = is_sharded
    training = Training(config)
    batches = batches_of(config, STEPS)
    losses = [training.step(batch).item() for batch in batches]
    took = milliseconds(lambda: training.step(batches[0]), calls=STEPS, rounds=1, warm_up=0)
    say(f"{config.precision}: {what}", ms_per_step=took, peak_gib=peak_gib())
    return losses


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder, "tokens.npy"))
    finish()
