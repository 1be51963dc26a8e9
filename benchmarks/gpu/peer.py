"""Stage `peer`: the step of AI2's ai2-olmo-core, which is another package `olmo_core`.

Its model, loss and autocast are those of its train module, compiled by itself.
"""

import importlib.metadata

import numpy as np
import torch
from stage import DEVICE, SHAPE, Z_LOSS, say, say_speed
from torch import Tensor

BATCHES = 4


def build() -> torch.nn.Module:
    """Return the model of the shape on the device, with normal weights and norms at 1."""
    from olmo_core.nn.transformer import TransformerConfig  # pyright: ignore

    reordered = TransformerConfig.olmo2_190M(vocab_size=SHAPE["vocab_size"]).block.name
    config = TransformerConfig.llama_like(
        d_model=SHAPE["d_model"],
        vocab_size=SHAPE["vocab_size"],
        n_layers=SHAPE["n_layers"],
        n_heads=SHAPE["n_heads"],
        hidden_size_multiplier=1.5,
        block_name=reordered,
        qk_norm=True,
        rope_theta=500_000,
        layer_norm_eps=1e-6,
    )
    assert config.block.feed_forward.hidden_size == SHAPE["feed_forward_size"]
    model = config.build(init_device="cpu").to(DEVICE)
    model.init_weights(max_seq_len=SHAPE["sequence_length"], device=DEVICE)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(std=0.02)
    model.apply_compile()
    return model


def main() -> None:
    """Say the speed of a step: gradients of its microbatches, clipping at 1, fused AdamW."""
    model = build()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=4e-4, betas=(0.9, 0.95), eps=1e-8, fused=True
    )
    size = SHAPE["microbatch_size"]
    rng = np.random.default_rng(0)
    instances = (SHAPE["microbatches"] * size, SHAPE["sequence_length"])
    batches = [rng.integers(2, SHAPE["vocab_size"], size=instances) for _ in range(BATCHES)]

    def step(number: int) -> Tensor:
        tokens = torch.from_numpy(batches[number % BATCHES]).to(DEVICE)
        labels = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
        count = (labels != -100).sum()
        total = torch.zeros((), device=DEVICE)
        for part, answers in zip(tokens.split(size), labels.split(size), strict=True):
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                out = model(
                    part,
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
