"""Part `variants`: what a step takes set up otherwise, and whether a deterministic one repeats."""

from typing import Any
from unittest import mock

import torch
from ours import Training, data_of
from part import (
    DEVICE,
    DOCUMENT,
    SHAPE,
    SMALL,
    Z_LOSS,
    case,
    finish,
    milliseconds,
    peak_gib,
    reset_peak_memory,
    say,
    say_checked,
)

from olmo_core.config import compute
from olmo_core.model.loss import cross_entropy
from olmo_core.train.step import labels_of

TIMED = 2 if SMALL else 3
AT_ONCE = (1 << 15, 1 << 16) if SMALL else (1 << 27, 1 << 28, 1 << 29, 1 << 31)


def main() -> None:
    """Take them in the order of what they would tell."""
    # first: the setting of cuBLAS that it takes holds for the process from its first product on
    digests = [timed(f"deterministic, time {time}", deterministic=True) for time in (1, 2)]
    equal = bool(digests[0]) and digests[0] == digests[1]
    say_checked("deterministic, twice", digests=digests, within=equal)
    timed("as in the part `step`, but for the microbatches")
    timed("documents", documents=True)
    with case("loss chunks"):
        chunks()
    timed("microbatch of twice the size", microbatches=1)


def timed(what: str, *, microbatches: int = 2, **how: Any) -> str:
    """Say what a step of two microbatches takes, or of one that holds as much.

    Returns the digest of the parameters after some steps, where it is deterministic.
    """
    digest = ""
    size = 2 * SHAPE["microbatch_size"] // microbatches
    shape = {**SHAPE, "microbatches": microbatches, "microbatch_size": size}
    with case(what):
        config, batches = data_of(shape, 2, document=DOCUMENT, **how)
        training = Training(config, drawn_there=True)
        took = milliseconds(lambda: training.step(batches[0]), calls=TIMED, rounds=1, warm_up=2)
        losses = [training.step(batch).item() for batch in batches]
        speed = config.tokens_per_step / took * 1e3
        say(what, ms_per_step=took, tokens_per_second=speed, losses=losses, peak_gib=peak_gib())
        if config.core.deterministic:
            digest = training.digest()
    return digest


def chunks() -> None:
    """Say what the loss of a microbatch takes by the logits that it holds at one time."""
    _, batches = data_of({**SHAPE, "microbatches": 1}, 1, document=DOCUMENT)
    labels = labels_of(batches[0]).flatten().to(DEVICE)
    d, vocabulary = SHAPE["d_model"], SHAPE["vocab_size"]
    hidden = torch.randn(len(labels), d, device=DEVICE, requires_grad=True)
    weight = torch.randn(vocabulary, d, device=DEVICE, requires_grad=True)

    def of_microbatch() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, cache_enabled=False):
            cross_entropy(hidden, weight, labels, z_loss=Z_LOSS, compiled=True)

    for number in AT_ONCE:
        with mock.patch.object(compute, "BF16_LOGITS_AT_ONCE", number):
            reset_peak_memory()
            took = milliseconds(of_microbatch, warm_up=2)
            say("loss chunks", logits_at_once=number, ms=took, peak_gib=peak_gib())


if __name__ == "__main__":
    main()
    finish()
