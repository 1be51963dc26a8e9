"""Part `peer`: the step of AI2's ai2-olmo-core, which is another package `olmo_core`.

Its model, loss and autocast are those of its train module, compiled by itself.
"""

import importlib.metadata

import numpy as np
import torch
from ai2_olmo_core import build
from part import (
    BATCHES,
    CUDA,
    DEVICE,
    DOCUMENT,
    SHAPE,
    Z_LOSS,
    draw,
    draw_tokens,
    say,
    say_speed,
)
from torch import Tensor


def main() -> None:
    """Say the speed of a step: gradients of its microbatches, clipping at 1, fused AdamW."""
    model = build(SHAPE, DEVICE)
    draw(model)
    model.apply_compile()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=4e-4, betas=(0.9, 0.95), eps=1e-8, fused=True
    )
    size = SHAPE["microbatch_size"]
    drawn = draw_tokens(SHAPE, BATCHES, document=DOCUMENT).astype(np.int64)
    batches = torch.from_numpy(drawn).view(BATCHES, -1, SHAPE["sequence_length"])
    if CUDA:
        batches = batches.pin_memory()  # as in ours: the host does not wait for the copy

    def step(number: int) -> Tensor:
        tokens = batches[number % BATCHES].to(DEVICE, non_blocking=True)
        labels = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
        count = (labels != -100).sum()
        total = torch.zeros((), device=DEVICE)
        for ids, answers in zip(tokens.split(size), labels.split(size), strict=True):
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                out = model(
                    ids,
                    labels=answers,
                    loss_reduction="sum",
                    z_loss_multiplier=Z_LOSS,
                    loss_div_factor=count,
                    return_logits=False,
                )
            out.loss.backward()
            total += out.ce_loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    say("version", ai2_olmo_core=importlib.metadata.version("ai2-olmo-core"))
    say_speed(step)


if __name__ == "__main__":
    main()
