"""Part `parity`: the loss and each gradient against those of a CPU in float32."""

from collections.abc import Iterator
from typing import Any

import torch
from ours import Training, data_of
from part import CUDA, DEVICE, SMALL, case, finish, say, say_checked
from torch import Tensor

CPU = torch.device("cpu")
SHAPE = {
    "d_model": 128 if SMALL else 512,
    "n_heads": 4,
    "n_layers": 2,
    "feed_forward_size": 512 if SMALL else 2048,
    "vocab_size": 2048 if SMALL else 8192,
    "sequence_length": 128 if SMALL else 512,
    "microbatch_size": 2,
    "microbatches": 2,
}
# Relative, of the loss, and of the norm of the difference of all gradients and of each. Alone those
# of queries and keys are further off than the rest: the softmax's backward cancels.
BOUNDS = {"fp32": (1e-4, 1e-4, 1e-4), "amp_bf16": (2e-2, 2e-2, 5e-2)}
WORST = 5  # gradients that are told

Found = tuple[float, dict[str, Tensor]]  # loss, and gradients by name


def main() -> None:
    """Compare by layout of the model and the data: what takes another path through attention."""
    if not CUDA:
        say("note", note="no CUDA device: float32 and bfloat16 are compared on the CPU")
    for documents in (True, False):  # what was tried least, first
        for kv_heads in (None, SHAPE["n_heads"] // 2):
            words = ["documents" if documents else "whole instances"]
            words += ["grouped queries"] if kv_heads else []
            with case(", ".join(words)):
                compare(", ".join(words), {"documents": documents, "kv_heads": kv_heads})


def compare(what: str, layout: dict[str, Any]) -> None:
    """Say how far loss and gradients are from those of the CPU, for each way to compute them."""
    wanted = found(CPU, precision="fp32", compiled=False, **layout)
    for device, precision, compiled in ways():
        where = f"{device.type} {precision}{' compiled' * compiled}"
        with case(f"{what}: {where}"):
            loss, gradients = found(device, precision=precision, compiled=compiled, **layout)
            each = {name: distance(gradients[name], wanted[1][name]) for name in wanted[1]}
            whole = [
                torch.cat([part.flatten() for part in side.values()])
                for side in (gradients, wanted[1])
            ]
            off = abs(loss - wanted[0]) / wanted[0], distance(*whole), max(each.values())
            bounds = BOUNDS[precision]
            say_checked(
                f"{what}: {where}",
                loss=off[0],
                all_gradients=off[1],
                each_gradient=dict(sorted(each.items(), key=lambda item: -item[1])[:WORST]),
                bounds=bounds,
                within=all(value <= bound for value, bound in zip(off, bounds, strict=True)),
            )


def ways() -> Iterator[tuple[torch.device, str, bool]]:
    """Yield device, precision, and whether blocks and loss are compiled."""
    if CUDA:
        yield DEVICE, "fp32", False
    yield DEVICE, "amp_bf16", False
    if CUDA:
        yield DEVICE, "amp_bf16", True


def found(device: torch.device, **how: Any) -> Found:
    """Return loss and gradients of a batch, on the CPU."""
    config, batches = data_of(SHAPE, 1, document=60, **how)
    training = Training(config, device)
    loss = training.accumulate(batches[0]).item()
    named = training.model.named_parameters()
    gradients = {n: p.grad.cpu().clone() for n, p in named if p.grad is not None}
    return loss, gradients


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return the norm of the difference over that of what is wanted."""
    return ((found - wanted).norm() / wanted.norm()).item()


if __name__ == "__main__":
    main()
    finish()
