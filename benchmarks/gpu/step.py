"""Part `step`: a whole training step of the shape, and where its time goes."""

import torch
from kernels import compilations, kernels_of
from ours import Training, data_of
from part import BATCHES, CUDA, DEVICE, DOCUMENT, SHAPE, case, finish, milliseconds, say, say_speed

from olmo_core.config.model import flops_per_token
from olmo_core.data.loader import Batch
from olmo_core.model.loss import cross_entropy
from olmo_core.monitor.devices import known_flops
from olmo_core.train.step import labels_of


def main() -> None:
    """Say the step's speed, what was compiled for it, its kernels, and pieces of it alone."""
    config, batches = data_of(SHAPE, BATCHES, document=DOCUMENT)
    training = Training(config, drawn_there=True)
    say_speed(
        lambda number: training.step(batches[number % BATCHES]),
        flops_per_token=flops_per_token(config.model, config.sequence_length),
        peak_flops=known_flops(torch.cuda.get_device_name(DEVICE)) if CUDA else None,
    )
    with case("compilations"):
        say("compilations", **compilations())
    with case("kernels of a step"):
        found = kernels_of(lambda: training.step(batches[0]))
        say("kernels of a step", microbatches=SHAPE["microbatches"], **found)
    alone(training, batches[0])


def alone(training: Training, batch: Batch) -> None:
    """Say what the loss of a microbatch takes alone, and what is done once a step."""
    size, config = SHAPE["microbatch_size"], training.config
    labels = labels_of(batch)[:size].flatten().to(DEVICE)
    hidden = torch.randn(len(labels), SHAPE["d_model"], device=DEVICE, dtype=torch.bfloat16)
    hidden.requires_grad_()
    weight = training.model.lm_head.weight

    def loss() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, cache_enabled=False):
            cross_entropy(hidden, weight, labels, z_loss=config.z_loss, compiled=True)

    with case("loss of a microbatch"):
        took = milliseconds(loss)
        found = kernels_of(loss)
        say("loss of a microbatch", wall_ms=took, by_kind=found["by_kind"])
    labels_in_all = torch.full((), 1e9, device=DEVICE)
    with case("norm and clipping"):
        took = milliseconds(lambda: training.gradients.normalise(labels_in_all, 1.0))
        say("norm and clipping", ms=took)
    with case("optimizer"):
        say("optimizer", ms=milliseconds(training.optimizer.step))


if __name__ == "__main__":
    main()
    finish()
