"""Stage `variants`: what a step takes set up otherwise, and whether a deterministic one repeats."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from ours import Training, batches_of, train_config, write_tokens
from stage import (
    DEVICE,
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
from olmo_core.config.train import TrainConfig
from olmo_core.model import loss
from olmo_core.train.step import labels_of

BATCHES = 2
TIMED = 2 if SMALL else 3
AT_ONCE = (1 << 15, 1 << 16) if SMALL else (1 << 27, 1 << 28, 1 << 29, 1 << 31)


def main() -> None:
    """Take them in the order of what they would tell."""
    shape = {**SHAPE, "microbatches": 2}
    tokens = 2 * shape["microbatch_size"] * shape["sequence_length"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokens.npy")
        count = BATCHES * tokens + 1
        write_tokens(path, vocab_size=SHAPE["vocab_size"], count=count, document=700)
        # first: the setting of cuBLAS that it takes holds for the process from its first product on
        with case("deterministic, twice"):
            config = train_config(shape, path, deterministic=True)
            digests = [timed(f"deterministic, time {time}", config) for time in (1, 2)]
            equal = len(set(digests)) == 1
            say_checked("deterministic, twice", digests=digests, within=equal)
        with case("as in the stage step, but for the microbatches"):
            timed("as in the stage step, but for the microbatches", train_config(shape, path))
        with case("documents"):
            timed("documents", train_config(shape, path, documents=True))
        with case("loss chunks"):
            chunks(train_config(shape, path))
        with case("microbatch of twice the size"):
            twice = {"microbatch_size": 2 * SHAPE["microbatch_size"]}
            config = train_config({**shape, **twice, "microbatches": 1}, path)
            timed("microbatch of twice the size", config)


def timed(what: str, config: TrainConfig) -> str:
    """Say what a step takes; return the digest of the parameters after some steps."""
    batches = batches_of(config, BATCHES)
    training = Training(config, drawn_there=True)
    took = milliseconds(lambda: training.step(batches[0]), calls=TIMED, rounds=1, warm_up=2)
    losses = [training.step(batch).item() for batch in batches]
    speed = config.tokens_per_step / took * 1e3
    say(what, ms_per_step=took, tokens_per_second=speed, losses=losses, peak_gib=peak_gib())
    return training.digest() if config.core.deterministic else ""


def chunks(config: TrainConfig) -> None:
    """Say what the loss of a microbatch takes by the logits that it holds at one time."""
    batch = batches_of(config, 1)[0]
    labels = labels_of(batch)[: SHAPE["microbatch_size"]].flatten().to(DEVICE)
    d, vocabulary = SHAPE["d_model"], SHAPE["vocab_size"]
    hidden = torch.randn(len(labels), d, device=DEVICE, requires_grad=True)
    weight = torch.randn(vocabulary, d, device=DEVICE, requires_grad=True)

    def of_microbatch() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, cache_enabled=False):
            loss.cross_entropy(hidden, weight, labels, z_loss=Z_LOSS, compiled=True)

    for number in AT_ONCE:
        with logits_at_once(number):
            reset_peak_memory()
            took = milliseconds(of_microbatch, warm_up=2)
            say("loss chunks", logits_at_once=number, ms=took, peak_gib=peak_gib())


@contextmanager
def logits_at_once(number: int) -> Iterator[None]:
    """Let the loss hold so many logits at one time; nobody else has a reason to choose."""
    before = compute.BF16_LOGITS_AT_ONCE
    compute.BF16_LOGITS_AT_ONCE = number
    try:
        yield
    finally:
        compute.BF16_LOGITS_AT_ONCE = before


if __name__ == "__main__":
    main()
    finish()
