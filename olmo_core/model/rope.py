"""Rotary positions: tables and product in float32, halves rotated (not interleaved pairs)."""

import torch
from torch import Tensor


def rope_tables(
    head_dim: int, theta: float, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sine and cosine of every angle, each (length, head_dim), float32.

    Both halves of the last dimension hold the same angles. The sine's first half is negated, so
    that `apply_rope` is two products and one roll.
    """
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequency = 1.0 / (theta**exponent)
    angle = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequency)
    sine, cosine = angle.sin(), angle.cos()
    return torch.cat((-sine, sine), dim=-1), torch.cat((cosine, cosine), dim=-1)


def apply_rope(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate x (B, H, T, D) by the angles of its positions; returns x's dtype."""
    wide = x.float()
    turned = wide.roll(x.shape[-1] // 2, dims=-1)
    return (wide * cosine + turned * sine).to(x.dtype)
