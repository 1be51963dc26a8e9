"""Rotary positions in float32; halves are rotated, not interleaved pairs."""

import torch
from torch import Tensor


def rope_tables(
    head_dim: int, theta: float, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of every angle, each (length, head_dim), float32.

    Both halves of the last dimension hold the same angles. The sine's first half is negated, so
    that `apply_rope` is two multiplications and one roll.
    """
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    frequency = 1.0 / (theta**exponent)
    angle = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequency)
    sine, cosine = angle.sin(), angle.cos()
    return torch.cat((-sine, sine), dim=-1), torch.cat((cosine, cosine), dim=-1)


def apply_rope(x_BHTE: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate queries or keys by the angles of their positions; the dtype stays."""
    wide_BHTE = x_BHTE.float()
    halves_swapped_BHTE = wide_BHTE.roll(x_BHTE.shape[-1] // 2, dims=-1)
    return (wide_BHTE * cosine + halves_swapped_BHTE * sine).to(x_BHTE.dtype)
