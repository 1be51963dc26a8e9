"""Part `sharded`: FSDP, compiled, on one device, which a run of one rank goes without.

Everything but the traffic between ranks: hooks, DTensors, casts while gathering, sums in float32.
"""

from unittest import mock

import torch
from ours import Training, data_of
from part import (
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

from olmo_core.config.train import TrainConfig
from olmo_core.data.loader import Batch
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


def main() -> None:
    """Say how far the losses of both are apart, and what a step takes."""
    if CUDA:
        torch.cuda.set_device(DEVICE)
    backend = "cpu:gloo,cuda:nccl" if CUDA else "gloo"
    store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    for precision, bound in BOUNDS.items():
        with case(precision):
            how = {"precision": precision, "compiled": precision == "amp_bf16"}
            config, batches = data_of(SHAPE, STEPS, document=500, **how)
            whole = losses_of("whole", config, batches)
            with mock.patch.object(prepare, "is_sharded", return_value=True):
                sharded = losses_of("sharded", config, batches)
            apart = [abs(a - b) / b for a, b in zip(sharded, whole, strict=True)]
            say_checked(
                f"{precision}: sharded against whole",
                bound=bound,
                apart=apart,
                losses=[whole, sharded],
                within=all(each <= bound for each in apart),  # NaN is not
            )
    dist.destroy_process_group()


def losses_of(what: str, config: TrainConfig, batches: list[Batch]) -> list[float]:
    """Return the losses of a step with each batch; say what a step takes."""
    training = Training(config)
    losses = [training.step(batch).item() for batch in batches]
    took = milliseconds(lambda: training.step(batches[0]), calls=STEPS, rounds=1, warm_up=0)
    say(f"{config.precision}: {what}", ms_per_step=took, peak_gib=peak_gib())
    return losses


if __name__ == "__main__":
    main()
    finish()
